/* fuzz_ring_memory: a ring whose memory is the input, as another process may leave it. */
#ifndef FUZZ_RING_MEMORY_H
#define FUZZ_RING_MEMORY_H

#include "fuzz.h"
#include "shared/ring.h"

enum { FUZZ_RING_SIZE = RING_SIZE_MIN, FUZZ_RING_INDICES = 2 * sizeof(uint64_t) };

static struct ring *memory;
static int memory_fd;

static inline bool fuzz_ring_takes(size_t size) {
    return size >= FUZZ_RING_INDICES && size <= FUZZ_RING_INDICES + FUZZ_RING_SIZE;
}

/* Input: head, tail, then the records, which begin where tail points. */
static inline void fuzz_ring_set(const uint8_t *data, size_t size) {
    uint64_t head, tail;
    if (memory == NULL)
        memory = ring_create(FUZZ_RING_SIZE, &memory_fd);
    memcpy(&head, data, sizeof head);
    memcpy(&tail, data + sizeof head, sizeof tail);
    atomic_store(&memory->shared->head, head);
    atomic_store(&memory->shared->tail, tail);
    memcpy(memory->data + (tail & (FUZZ_RING_SIZE - 1)), data + FUZZ_RING_INDICES,
           size - FUZZ_RING_INDICES);
}

#endif
