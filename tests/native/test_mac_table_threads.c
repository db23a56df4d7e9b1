/* Two writers and a reader of the same addresses at once: an address that stays is found, always,
 * and what is found is one of those who have it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "fastun.h"
#include "packet/mac_key.h"
#include "random.h"
#include "shared/mac_table.h"

enum { N_STEPS = 60000, N_STEADY = 200, PEER = 3, NOW = 1000 };

static struct mac_table *table;
static _Atomic bool is_over;

static bool always(void *context) {
    (void)context;
    return true;
}

static uint64_t key_of(uint8_t kind, size_t i) {
    const uint8_t address[MAC_SIZE] = {2, kind, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
    return mac_key_of(address, 0);
}

/* Its own thousand is full, so that entries are removed and used again under the reader. */
static void *write_on(void *argument) {
    unsigned owner = *(unsigned *)argument;
    struct random random = {owner + 1};
    for (uint64_t i = 0; i < N_STEPS; i++) {
        mac_table_learn(table, owner, key_of(owner == PEER ? 1 : 2, random_below(&random, 3000)),
                        NOW + 1 + i, always, NULL);
        if (i % 512 == 0)
            usleep(1);
    }
    atomic_store(&is_over, true);
    return NULL;
}

static void *read_on(void *argument) {
    struct random random = {99};
    uint64_t *n = argument;
    while (!atomic_load(&is_over)) {
        size_t i = random_below(&random, 3000);
        CHECK_EQUAL(mac_table_find(table, key_of(0, i % N_STEADY), NOW), PEER + 1);
        int owner = mac_table_find(table, key_of(1, i), NOW);
        CHECK(owner == PEER || owner == MAC_OWNER_UNKNOWN);
        owner = mac_table_find(table, key_of(2, i), NOW);
        CHECK(owner == MAC_OWNER_LOCAL || owner == MAC_OWNER_UNKNOWN);
        ++*n;
    }
    return NULL;
}

static void what_stays_is_always_found_while_others_come_and_go(void) {
    unsigned owners[2] = {PEER, MAC_OWNER_LOCAL};
    pthread_t writers[2], reader;
    uint64_t n_read = 0;
    int fd;
    table = mac_table_create(&fd);
    CHECK(table != NULL);
    for (size_t i = 0; i < N_STEADY; i++)
        mac_table_learn(table, PEER + 1, key_of(0, i), NOW, always, NULL);
    CHECK_EQUAL(pthread_create(&reader, NULL, read_on, &n_read), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&writers[i], NULL, write_on, &owners[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    pthread_join(reader, NULL);
    CHECK(n_read > 100);
    mac_table_detach(table);
    close(fd);
}

int main(void) {
    RUN(what_stays_is_always_found_while_others_come_and_go);
    return EXIT_SUCCESS;
}
