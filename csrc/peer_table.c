#define _GNU_SOURCE
#include "peer_table.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "fastun.h"
#include "shared_memory.h"

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

unsigned peer_table_n_slots(void) {
    return N_PEER_SLOTS;
}

unsigned peer_table_n_fields(void) {
    return sizeof fields / sizeof fields[0];
}

const char *peer_table_field_name(unsigned field) {
    return fields[field].name;
}
