/* Any bytes as the shared memory that a neighbour left behind: a consumer stays inside the ring,
 * comes to an end, and an emptied ring is usable again. Input: head, tail, then the records, which
 * begin where tail points. */
#include "fastun.h"
#include "fuzz.h"
#include "ring.h"

enum { SIZE = RING_SIZE_MIN, INDICES = 2 * sizeof(uint64_t) };

static struct ring *memory;
static int fd;
static struct stats_block stats;

static void set_memory(const uint8_t *data, size_t size) {
    uint64_t head, tail;
    memcpy(&head, data, sizeof head);
    memcpy(&tail, data + sizeof head, sizeof tail);
    atomic_store(&memory->shared->head, head);
    atomic_store(&memory->shared->tail, tail);
    memcpy(memory->data + (tail & (SIZE - 1)), data + INDICES, size - INDICES);
}

static void check_inside(const struct ring *ring, const struct ring_record *record) {
    const uint8_t *start = (const uint8_t *)record, *payload = ring_payload(record);
    FUZZ_CHECK(start >= ring->data && start < ring->data + SIZE);
    FUZZ_CHECK(payload >= start + sizeof *record);
    FUZZ_CHECK(payload + record->length <= start + record->space);
    FUZZ_CHECK(start + record->space <= ring->data + 2 * (size_t)SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < INDICES || size > INDICES + SIZE)
        return 0;
    if (memory == NULL)
        memory = ring_create(SIZE, &fd);
    set_memory(data, size);
    struct ring *consumer = ring_attach(fd, SIZE);
    if (consumer == NULL) /* said to be no ring: fine */
        return 0;
    const struct ring_record *record;
    uint64_t cursor = ring_first(consumer), n_records = 0;
    bool corrupt = false;
    while ((record = ring_peek(consumer, &cursor, &corrupt)) != NULL) {
        check_inside(consumer, record);
        FUZZ_CHECK(++n_records <= SIZE / RING_RECORD_ALIGN);
    }
    FUZZ_CHECK(corrupt || cursor == atomic_load(&consumer->shared->head));
    ring_discard(consumer, &stats);
    cursor = ring_first(consumer);
    corrupt = false;
    record = ring_peek(consumer, &cursor, &corrupt);
    FUZZ_CHECK(record == NULL && ring_used_bytes(consumer) == 0);
    ring_detach(consumer);
    return 0;
}
