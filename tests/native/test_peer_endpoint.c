/* Where a peer is, written by one process and read by others: never half of one and half of
 * another, and never an older one behind a newer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "shared/peer_table.h"

enum { N_READERS = 3, N_WRITES = 300000 };

static struct peer_table table;
static struct peer_inbound *const peer = &table.by_link_reader[5];
static _Atomic bool is_over;

/* Every field says which one it is. */
static struct udp_address endpoint_of(uint32_t number) {
    struct udp_address endpoint = {.socket_index = number,
                                   .family = (uint16_t)(1 + number % 2),
                                   .port = (uint16_t)number,
                                   .zone = ~number,
                                   .local_zone = number * 3};
    for (unsigned i = 0; i < sizeof endpoint.address; i++) {
        endpoint.address[i] = (uint8_t)(number * 5 + i);
        endpoint.local[i] = (uint8_t)(number * 7 + i);
    }
    return endpoint;
}

static void *read_on(void *argument) {
    uint64_t *n_read = argument, version = 0, last = 0;
    uint32_t last_number = 0;
    while (!atomic_load(&is_over) || last_number != N_WRITES - 1) {
        struct udp_address endpoint;
        if (!peer_read_endpoint(peer, &version, &endpoint))
            continue;
        struct udp_address expected = endpoint_of(endpoint.socket_index);
        CHECK_EQUAL(memcmp(&endpoint, &expected, sizeof endpoint), 0);
        CHECK(version > last && version % 2 == 0);
        CHECK(*n_read == 0 || endpoint.socket_index > last_number);
        last = version;
        last_number = endpoint.socket_index;
        ++*n_read;
    }
    return NULL;
}

static void readers_see_whole_endpoints_in_order_and_the_last_one(void) {
    pthread_t readers[N_READERS];
    uint64_t n_read[N_READERS] = {0}, n = 0;
    for (int i = 0; i < N_READERS; i++)
        CHECK_EQUAL(pthread_create(&readers[i], NULL, read_on, &n_read[i]), 0);
    for (uint32_t number = 0; number < N_WRITES; number++) {
        struct udp_address endpoint = endpoint_of(number);
        peer_write_endpoint(peer, &endpoint);
        /* The next one comes anywhere in a reading. */
        for (volatile uint32_t spin = 0; spin < number * 37 % 1000; spin++)
            ;
        if (number % 1000 == 0)
            usleep(1); /* the readers' turn where there are few processors */
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < N_READERS; i++) {
        pthread_join(readers[i], NULL);
        n += n_read[i];
    }
    printf("        %llu of %d seen by %d readers\n", (unsigned long long)n, N_WRITES, N_READERS);
    CHECK(n > 100);
}

static void an_endpoint_is_new_once_to_each_reader(void) {
    static struct {
        struct peer_table table;
        struct peer_inbound beyond;
    } longer;
    struct udp_address endpoint = endpoint_of(9), read;
    uint64_t version = 0, other = 0;
    peer_table_clear(&table, 5);
    CHECK(!peer_read_endpoint(peer, &version, &read));
    CHECK(!peer_table_endpoint(&table, 5, &read));
    peer_write_endpoint(&longer.beyond, &endpoint);
    CHECK(!peer_table_endpoint(&longer.table, N_PEER_SLOTS, &read));
    peer_write_endpoint(peer, &endpoint);
    CHECK(peer_read_endpoint(peer, &version, &read));
    CHECK(!peer_read_endpoint(peer, &version, &read));
    CHECK(peer_read_endpoint(peer, &other, &read));
    CHECK(peer_table_endpoint(&table, 5, &read) && peer_table_endpoint(&table, 5, &read));
    CHECK_EQUAL(memcmp(&endpoint, &read, sizeof read), 0);
    CHECK(!peer_table_endpoint(&table, 4, &read) && !peer_table_endpoint(&table, 6, &read));
}

static void what_a_killed_writer_left_half_done_is_not_an_endpoint_until_the_next_is_written(void) {
    struct udp_address endpoint = endpoint_of(10), read;
    uint64_t version = 0, before;
    peer_write_endpoint(peer, &endpoint);
    CHECK(peer_read_endpoint(peer, &version, &read));
    before = version;
    atomic_fetch_add(&peer->endpoint_version, 1);
    atomic_store(&peer->endpoint[1], 12345);
    CHECK(!peer_read_endpoint(peer, &version, &read));
    CHECK(!peer_table_endpoint(&table, 5, &read));
    endpoint = endpoint_of(11);
    peer_write_endpoint(peer, &endpoint);
    CHECK(peer_read_endpoint(peer, &version, &read));
    CHECK(version > before);
    CHECK_EQUAL(memcmp(&endpoint, &read, sizeof read), 0);
}

int main(void) {
    RUN(readers_see_whole_endpoints_in_order_and_the_last_one);
    RUN(an_endpoint_is_new_once_to_each_reader);
    RUN(what_a_killed_writer_left_half_done_is_not_an_endpoint_until_the_next_is_written);
    return EXIT_SUCCESS;
}
