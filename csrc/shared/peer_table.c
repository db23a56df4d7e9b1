#define _GNU_SOURCE
#include "shared/peer_table.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "fastun.h"
#include "shared/shared_memory.h"

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define X(field) {#field, offsetof(struct peer_slot, field)},
    PEER_FIELDS(X)
#undef X
};

struct peer_table *peer_table_create(int *fd) {
    return shared_memory_create("fastun-peers", sizeof(struct peer_table), fd);
}

struct peer_table *peer_table_attach(int fd) {
    return shared_memory_attach(fd, sizeof(struct peer_table));
}

void peer_table_detach(struct peer_table *table) {
    munmap(table, sizeof *table);
}

uint64_t peer_table_read(struct peer_table *table, unsigned slot, unsigned field) {
    char *place = (char *)&table->slots[slot] + fields[field].offset;
    return atomic_load_explicit((_Atomic uint64_t *)(void *)place, memory_order_relaxed);
}

void peer_table_clear(struct peer_table *table, unsigned slot) {
    memset(&table->slots[slot], 0, sizeof table->slots[slot]);
}

/* -- endpoints (a sequence lock) --------------------------------------------------------------- */

_Static_assert(sizeof(struct udp_address) % sizeof(uint64_t) == 0, "an endpoint is whole words");

void peer_write_endpoint(struct peer_slot *peer, const struct udp_address *endpoint) {
    uint64_t words[ENDPOINT_WORDS];
    uint64_t version = atomic_load_explicit(&peer->endpoint_version, memory_order_relaxed) | 1;
    memcpy(words, endpoint, sizeof words);
    atomic_store_explicit(&peer->endpoint_version, version, memory_order_relaxed);
    atomic_thread_fence(
        memory_order_release); /* odd before the words (partner: the acquire fence) */
    for (unsigned i = 0; i < ENDPOINT_WORDS; i++)
        atomic_store_explicit(&peer->endpoint[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&peer->endpoint_version, version + 1, memory_order_release);
}

bool peer_read_endpoint(struct peer_slot *peer, uint64_t *version, struct udp_address *endpoint) {
    uint64_t words[ENDPOINT_WORDS], before, after;
    /* A writer that was killed in the middle leaves an odd version: then there is no endpoint until
     * its successor writes one. */
    do {
        before = atomic_load_explicit(&peer->endpoint_version, memory_order_acquire);
        if (before % 2 != 0 || before == *version)
            return false;
        for (unsigned i = 0; i < ENDPOINT_WORDS; i++)
            words[i] = atomic_load_explicit(&peer->endpoint[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&peer->endpoint_version, memory_order_relaxed);
    } while (after != before);
    memcpy(endpoint, words, sizeof words);
    *version = before;
    return true;
}

int peer_table_endpoint(struct peer_table *table, unsigned slot, struct udp_address *endpoint) {
    uint64_t version = 0;
    return slot < N_PEER_SLOTS && peer_read_endpoint(&table->slots[slot], &version, endpoint);
}

unsigned peer_table_n_slots(void) {
    return N_PEER_SLOTS;
}

unsigned peer_table_n_fields(void) {
    return sizeof fields / sizeof fields[0];
}

const char *peer_table_field_name(unsigned field) {
    return fields[field].name;
}
