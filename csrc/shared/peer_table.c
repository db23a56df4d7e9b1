#define _GNU_SOURCE
#include "shared/peer_table.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "fastun.h"
#include "shared/shared_memory.h"
#include "shared/stats.h"

static const struct {
    const char *name;
    size_t offset, slot_bytes; /* of slot 0's, and from one slot to the next */
} fields[] = {
#define X(field, part)                                                                             \
    {#field, offsetof(struct peer_table, part[0].field),                                           \
     sizeof(((struct peer_table *)NULL)->part[0])},
    PEER_FIELDS(X)
#undef X
};

struct peer_table *peer_table_create(int *fd) {
    return shared_memory_create("fastun-peers", sizeof(struct peer_table), fd);
}

struct peer_table *peer_table_attach(int fd, unsigned writers) {
    const struct shared_part parts[] = {
        PART_OF(struct peer_table, by_tun_reader, ROLE_tun_reader),
        PART_OF(struct peer_table, by_link_writer, ROLE_link_writer),
        PART_OF(struct peer_table, by_link_reader, ROLE_link_reader),
    };
    return shared_memory_attach_parts(fd, sizeof(struct peer_table), parts, 3, writers);
}

void peer_table_detach(struct peer_table *table) {
    munmap(table, sizeof *table);
}

uint64_t peer_table_read(struct peer_table *table, unsigned slot, unsigned field) {
    char *place = (char *)table + fields[field].offset + slot * fields[field].slot_bytes;
    return atomic_load_explicit((_Atomic uint64_t *)(void *)place, memory_order_relaxed);
}

void peer_table_clear(struct peer_table *table, unsigned slot) {
    memset(&table->by_tun_reader[slot], 0, sizeof table->by_tun_reader[slot]);
    memset(&table->by_link_writer[slot], 0, sizeof table->by_link_writer[slot]);
    memset(&table->by_link_reader[slot], 0, sizeof table->by_link_reader[slot]);
}

/* -- endpoints (a sequence lock) --------------------------------------------------------------- */

_Static_assert(sizeof(struct udp_address) % sizeof(uint64_t) == 0, "an endpoint is whole words");

void peer_write_endpoint(struct peer_inbound *peer, const struct udp_address *endpoint) {
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

bool peer_read_endpoint(const struct peer_inbound *peer, uint64_t *version,
                        struct udp_address *endpoint) {
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
    return slot < N_PEER_SLOTS &&
           peer_read_endpoint(&table->by_link_reader[slot], &version, endpoint);
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
