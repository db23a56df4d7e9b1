/* Any bytes as the shared memory that a neighbour left behind: a consumer stays inside the ring,
 * comes to an end, and an emptied ring is usable again, also behind what a predecessor seems to have
 * begun. Input: head, tail, then the records, which begin where tail points; the last byte says what
 * was begun. */
#include "fastun.h"
#include "fuzz_ring_memory.h"

enum { SIZE = FUZZ_RING_SIZE };

static struct stats_block stats;

/* Between `begin` and `end`, positions of the ring. */
static void check_inside(const struct ring *ring, const struct ring_view *record, uint64_t begin,
                         uint64_t end) {
    const uint8_t *start = ring->data + (begin & (SIZE - 1));
    FUZZ_CHECK(record->payload >= start + sizeof(struct ring_record));
    FUZZ_CHECK(record->payload + record->length <= start + (end - begin));
    FUZZ_CHECK(start + (end - begin) <= ring->data + 2 * (size_t)SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!fuzz_ring_takes(size))
        return 0;
    fuzz_ring_set(data, size);
    struct ring *consumer = ring_attach(memory_fd, SIZE);
    if (consumer == NULL) /* said to be no ring: fine */
        return 0;
    const struct ring_view *record;
    ring_begin(consumer, ring_first(consumer) + data[size - 1] * RING_RECORD_ALIGN / 2);
    ring_leave_begun(consumer, &stats);
    uint64_t begin = ring_first(consumer), cursor = begin, n_records = 0;
    bool corrupt = false;
    for (; (record = ring_peek(consumer, &cursor, &corrupt)) != NULL; begin = cursor) {
        check_inside(consumer, record, begin, cursor);
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
