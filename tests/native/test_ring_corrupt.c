/* What a neighbour gone mad may leave in the ring: every impossible record is distinguished from a
 * sound one, to the byte, and nothing outside the ring is touched. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "fastun.h"
#include "shared/ring.h"

enum { SIZE = RING_SIZE_MIN, RECORD = sizeof(struct ring_record), SPACE = 256 };

static struct stats_block stats;

enum verdict { NOTHING, SOUND, CORRUPT };

/* A ring with `filled` bytes whose first record is as given; fresh, since a consumer remembers. */
static enum verdict judge(struct ring_record record, uint64_t filled) {
    int fd;
    struct ring *ring = ring_create(SIZE, &fd);
    CHECK(ring != NULL);
    memcpy(ring->data, &record, sizeof record);
    atomic_store(&ring->shared->head, filled);
    uint64_t cursor = ring_first(ring);
    bool corrupt = false;
    const struct ring_view *seen = ring_peek(ring, &cursor, &corrupt);
    CHECK(seen == NULL || !corrupt);
    CHECK_EQUAL(cursor, seen == NULL ? 0 : record.space);
    ring_detach(ring);
    close(fd);
    return seen != NULL ? SOUND : corrupt ? CORRUPT : NOTHING;
}

static struct ring_record sound(void) {
    return (struct ring_record){.space = SPACE, .offset = RECORD, .length = SPACE - RECORD};
}

static void a_sound_record_passes_at_its_limits(void) {
    struct ring_record record = sound();
    CHECK_EQUAL(judge(record, SPACE), SOUND);
    record.length = 1;
    CHECK_EQUAL(judge(record, SPACE), SOUND);
    record.offset = SPACE - 1;
    CHECK_EQUAL(judge(record, SPACE), SOUND);
    record = (struct ring_record){.space = SIZE, .offset = RECORD, .length = SIZE - RECORD};
    CHECK_EQUAL(judge(record, SIZE), SOUND);
}

static void a_space_that_ends_behind_the_published_bytes_is_corrupt(void) {
    struct ring_record record = sound();
    CHECK_EQUAL(judge(record, SPACE - RING_RECORD_ALIGN), CORRUPT);
    record.space = UINT32_MAX & ~(uint32_t)(RING_RECORD_ALIGN - 1);
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
    record.space = SIZE + RING_RECORD_ALIGN;
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
}

static void a_space_of_no_whole_lines_is_corrupt(void) {
    const uint32_t spaces[] = {0,        1, RECORD, RING_RECORD_ALIGN - 1, RING_RECORD_ALIGN + 1,
                               SPACE - 8};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        struct ring_record record = {.space = spaces[i], .offset = RECORD, .length = 1};
        CHECK_EQUAL(judge(record, SIZE), CORRUPT);
    }
}

static void a_payload_without_a_byte_is_corrupt(void) {
    struct ring_record record = sound();
    record.length = 0;
    CHECK_EQUAL(judge(record, SPACE), CORRUPT);
}

static void a_payload_that_begins_in_the_header_is_corrupt(void) {
    struct ring_record record = sound();
    record.length = 1;
    record.offset = RECORD - 1;
    CHECK_EQUAL(judge(record, SPACE), CORRUPT);
    record.offset = 0;
    CHECK_EQUAL(judge(record, SPACE), CORRUPT);
}

static void a_payload_that_leaves_its_record_is_corrupt(void) {
    struct ring_record record = sound();
    record.length++;
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
    record.length = UINT32_MAX; /* offset + length wraps in 32 bits */
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
    record = sound();
    record.offset = SPACE + 1;
    record.length = 1;
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
    record.offset = UINT32_MAX;
    CHECK_EQUAL(judge(record, SIZE), CORRUPT);
}

static void more_published_than_the_ring_holds_is_corrupt(void) {
    CHECK_EQUAL(judge(sound(), SIZE), SOUND);
    CHECK_EQUAL(judge(sound(), SIZE + RING_RECORD_ALIGN), CORRUPT);
    CHECK_EQUAL(judge(sound(), UINT64_MAX & ~63ull), CORRUPT);
}

/* What was checked is what is followed. */
static void what_the_producer_writes_behind_the_check_changes_nothing(void) {
    int fd;
    struct ring *ring = ring_create(SIZE, &fd);
    CHECK(ring != NULL);
    struct ring_record record = sound();
    record.n_packets = 1;
    record.n_bytes = 2;
    record.slot = 3;
    record.link_id = 4;
    record.segment = 5;
    record.enqueued_ns = 6;
    memcpy(ring->data, &record, sizeof record);
    atomic_store(&ring->shared->head, SPACE);
    uint64_t cursor = ring_first(ring);
    bool corrupt = false;
    const struct ring_view *seen = ring_peek(ring, &cursor, &corrupt);
    memset(ring->data, 0xff, sizeof record);
    CHECK(seen->payload == ring->data + RECORD);
    CHECK_EQUAL(seen->length, SPACE - RECORD);
    CHECK_EQUAL(seen->n_packets, 1);
    CHECK_EQUAL(seen->n_bytes, 2);
    CHECK_EQUAL(seen->slot, 3);
    CHECK_EQUAL(seen->link_id, 4);
    CHECK_EQUAL(seen->segment, 5);
    CHECK_EQUAL(seen->enqueued_ns, 6);
    CHECK_EQUAL(cursor, SPACE);
    ring_detach(ring);
    close(fd);
}

/* As a link-writer's batch holds them, and when some were looked at before. */
static void a_whole_batch_of_views_is_valid_at_once(void) {
    int fd;
    struct ring *ring = ring_create(SIZE, &fd);
    CHECK(ring != NULL);
    const struct ring_view *seen[RING_VIEWS_MAX];
    for (uint32_t i = 0; i < RING_VIEWS_MAX; i++) {
        struct ring_record *record = ring_reserve(ring, SPACE);
        *record = (struct ring_record){.offset = RECORD, .length = 1 + i % 16, .n_packets = i};
        ring_commit(ring, record);
    }
    ring_publish(ring, &stats);
    for (int round = 0; round < 2; round++) {
        uint64_t cursor = ring_first(ring);
        bool corrupt = false;
        for (uint32_t i = 0; i < RING_VIEWS_MAX; i++)
            CHECK((seen[i] = ring_peek(ring, &cursor, &corrupt)) != NULL);
        for (uint32_t i = 0; i < RING_VIEWS_MAX; i++)
            CHECK_EQUAL(seen[i]->n_packets, i);
        cursor = ring_first(ring);
        CHECK(ring_peek(ring, &cursor, &corrupt) != NULL);
    }
    ring_detach(ring);
    close(fd);
}

static void after_a_discard_the_corrupt_record_is_gone(void) {
    int fd;
    bool corrupt = false;
    struct ring *ring = ring_create(SIZE, &fd);
    CHECK(ring != NULL);
    atomic_store(&ring->shared->head, SPACE); /* a header of zeros */
    uint64_t cursor = ring_first(ring);
    CHECK(ring_peek(ring, &cursor, &corrupt) == NULL && corrupt);
    ring_discard(ring, &stats);
    corrupt = false;
    cursor = ring_first(ring);
    CHECK(ring_peek(ring, &cursor, &corrupt) == NULL && !corrupt);
    ring_detach(ring);
    close(fd);
}

/* Else every later record is read at an address where no record can stand. */
static void a_head_that_is_not_on_a_line_does_not_shift_the_consumer_for_good(void) {
    int fd;
    struct ring *ring = ring_create(SIZE, &fd);
    CHECK(ring != NULL);
    atomic_store(&ring->shared->head, SPACE + 3);
    for (int i = 0; i < 3; i++) {
        bool corrupt = false;
        uint64_t cursor = ring_first(ring);
        CHECK(ring_peek(ring, &cursor, &corrupt) == NULL);
        if (corrupt)
            ring_discard(ring, &stats);
        atomic_store(&ring->shared->head, 2 * SPACE); /* the producer publishes, aligned */
    }
    CHECK_EQUAL(ring_first(ring) % RING_RECORD_ALIGN, 0);
    ring_detach(ring);
    close(fd);
}

int main(void) {
    RUN(a_sound_record_passes_at_its_limits);
    RUN(a_space_that_ends_behind_the_published_bytes_is_corrupt);
    RUN(a_space_of_no_whole_lines_is_corrupt);
    RUN(a_payload_without_a_byte_is_corrupt);
    RUN(a_payload_that_begins_in_the_header_is_corrupt);
    RUN(a_payload_that_leaves_its_record_is_corrupt);
    RUN(more_published_than_the_ring_holds_is_corrupt);
    RUN(what_the_producer_writes_behind_the_check_changes_nothing);
    RUN(a_whole_batch_of_views_is_valid_at_once);
    RUN(after_a_discard_the_corrupt_record_is_gone);
    RUN(a_head_that_is_not_on_a_line_does_not_shift_the_consumer_for_good);
    return EXIT_SUCCESS;
}
