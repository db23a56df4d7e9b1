/* One ring, both of its ends in this thread: what a record may be, what a kill leaves behind. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "fastun.h"
#include "shared/ring.h"
#include "shared/shared_memory.h"

enum { SIZE = RING_SIZE_MIN, RECORD = sizeof(struct ring_record) };

static struct stats_block stats;

struct ends {
    int fd;
    struct ring *producer, *consumer;
};

static struct ends ends_open(void) {
    struct ends ends;
    ends.producer = ring_create(SIZE, &ends.fd);
    CHECK(ends.producer != NULL);
    ends.consumer = ring_attach(ends.fd, SIZE);
    CHECK(ends.consumer != NULL);
    return ends;
}

static void ends_close(struct ends *ends) {
    ring_detach(ends->producer);
    ring_detach(ends->consumer);
    close(ends->fd);
}

/* What a successor of a killed worker does. */
static void attach_again(struct ends *ends, struct ring **end) {
    ring_detach(*end);
    *end = ring_attach(ends->fd, SIZE);
    CHECK(*end != NULL);
}

static bool commit(struct ring *ring, uint32_t length, uint8_t content) {
    struct ring_record *record = ring_reserve(ring, RECORD + length);
    if (record == NULL)
        return false;
    *record = (struct ring_record){.offset = RECORD, .length = length, .n_packets = content};
    memset(ring_payload(record), content, length);
    ring_commit(ring, record);
    return true;
}

/* The next record's content, or -1 when there is none. */
static int peek(struct ring *ring, uint64_t *cursor) {
    bool corrupt = false;
    const struct ring_view *record = ring_peek(ring, cursor, &corrupt);
    CHECK(!corrupt);
    if (record == NULL)
        return -1;
    for (uint32_t i = 0; i < record->length; i++)
        CHECK_EQUAL(record->payload[i], (uint8_t)record->n_packets);
    return (int)record->n_packets;
}

static void a_size_that_is_not_a_power_of_two_in_bounds_is_refused(void) {
    const size_t sizes[] = {
        0, 1, SIZE / 2, SIZE - 1, SIZE + 1, SIZE * 3, SIZE_MAX, 0ul - 1, (size_t)RING_SIZE_MAX * 2};
    int fd;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK(ring_create(sizes[i], &fd) == NULL);
        CHECK_EQUAL(errno, EINVAL);
    }
}

static void an_unsealed_memory_is_refused(void) {
    struct ends ends = ends_open();
    int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQUAL(ftruncate(fd, RING_DATA_OFFSET + SIZE), 0);
    CHECK_EQUAL(pwrite(fd, ends.producer->shared, RING_DATA_OFFSET, 0), RING_DATA_OFFSET);
    CHECK(ring_attach(fd, SIZE) == NULL); /* in all else it is a ring */
    CHECK_EQUAL(errno, EINVAL);
    CHECK_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    struct ring *ring = ring_attach(fd, SIZE);
    CHECK(ring != NULL);
    ring_detach(ring);
    close(fd);
    ends_close(&ends);
}

static void a_memory_of_another_size_is_refused(void) {
    struct ends ends = ends_open();
    CHECK(ring_attach(ends.fd, SIZE * 2) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    CHECK_EQUAL(ftruncate(ends.fd, 4096), -1);
    CHECK_EQUAL(errno, EPERM);
    ends_close(&ends);
}

static void memory_that_is_not_a_ring_is_refused(void) {
    int fd = shared_memory_open("zeros", RING_DATA_OFFSET + SIZE);
    CHECK(ring_attach(fd, SIZE) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    close(fd);
    CHECK(ring_attach(fd, SIZE) == NULL); /* closed: EBADF */
    CHECK_EQUAL(errno, EBADF);
}

/* Sets one thing wrong in a ring that is sound in all else. */
static void check_refused_with(uint32_t mark_off, uint32_t size_off, uint64_t head, uint64_t tail) {
    struct ends ends = ends_open();
    struct ring_shared *shared = ends.producer->shared;
    shared->magic += mark_off;
    shared->size_bytes += size_off;
    atomic_store(&shared->head, head);
    atomic_store(&shared->tail, tail);
    CHECK(ring_attach(ends.fd, SIZE) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    ends_close(&ends);
}

static void a_ring_with_one_thing_wrong_is_refused(void) {
    check_refused_with(1, 0, 0, 0);
    check_refused_with(0, SIZE, 0, 0);
    check_refused_with(0, 0, 2 * RING_RECORD_ALIGN + 1, RING_RECORD_ALIGN);
    check_refused_with(0, 0, 2 * RING_RECORD_ALIGN, RING_RECORD_ALIGN + 1);
    check_refused_with(0, 0, 0, RING_RECORD_ALIGN); /* the tail is ahead */
}

static void a_ring_fuller_than_its_size_is_refused(void) {
    struct ends ends = ends_open();
    atomic_store(&ends.producer->shared->head, SIZE + RING_RECORD_ALIGN);
    CHECK(ring_attach(ends.fd, SIZE) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    atomic_store(&ends.producer->shared->head, SIZE);
    attach_again(&ends, &ends.consumer);
    ends_close(&ends);
}

static void a_record_over_the_end_lies_in_one_piece(void) {
    struct ends ends = ends_open();
    enum { LENGTH = 60000 };
    bool ran_over = false;
    for (int i = 0; i < 100; i++) {
        uint64_t cursor = ring_first(ends.consumer);
        CHECK(commit(ends.producer, LENGTH, (uint8_t)i));
        ring_publish(ends.producer, &stats);
        ran_over |= cursor % SIZE + RECORD + LENGTH > SIZE;
        CHECK_EQUAL(peek(ends.consumer, &cursor), i);
        ring_release(ends.consumer, cursor, &stats);
    }
    CHECK(ran_over);
    ends_close(&ends);
}

static void a_ring_fills_to_its_last_byte_and_no_further(void) {
    struct ends ends = ends_open();
    uint64_t cursor = ring_first(ends.consumer);
    int n = 0, n_seen = 0;
    while (commit(ends.producer, 4096 - RECORD, (uint8_t)n))
        n++;
    CHECK_EQUAL(n, SIZE / 4096);
    CHECK(ring_reserve(ends.producer, 1) == NULL);
    ring_publish(ends.producer, &stats);
    CHECK_EQUAL(ring_used_bytes(ends.producer), SIZE);
    while (peek(ends.consumer, &cursor) == n_seen)
        n_seen++;
    CHECK_EQUAL(n_seen, n);
    CHECK(ring_reserve(ends.producer, 1) == NULL);
    ring_release(ends.consumer, cursor, &stats);
    CHECK_EQUAL(ring_used_bytes(ends.producer), 0);
    CHECK(ring_reserve(ends.producer, SIZE) != NULL);
    CHECK(ring_reserve(ends.producer, SIZE + 1) == NULL);
    ends_close(&ends);
}

static void a_commit_is_seen_at_publish_and_not_before(void) {
    struct ends ends = ends_open();
    uint64_t cursor = ring_first(ends.consumer);
    CHECK(commit(ends.producer, 100, 1));
    CHECK(ring_has_unpublished(ends.producer));
    CHECK_EQUAL(peek(ends.consumer, &cursor), -1);
    CHECK(commit(ends.producer, 100, 2));
    ring_publish(ends.producer, &stats);
    CHECK(!ring_has_unpublished(ends.producer));
    CHECK_EQUAL(peek(ends.consumer, &cursor), 1);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 2);
    CHECK_EQUAL(peek(ends.consumer, &cursor), -1);
    ends_close(&ends);
}

static void what_a_killed_producer_did_not_publish_has_never_been(void) {
    struct ends ends = ends_open();
    uint64_t cursor = ring_first(ends.consumer);
    CHECK(commit(ends.producer, 100, 1));
    ring_publish(ends.producer, &stats);
    CHECK(commit(ends.producer, 5000, 2));
    attach_again(&ends, &ends.producer);
    CHECK(commit(ends.producer, 200, 3));
    ring_publish(ends.producer, &stats);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 1);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 3);
    CHECK_EQUAL(peek(ends.consumer, &cursor), -1);
    ends_close(&ends);
}

static void what_a_killed_consumer_did_not_release_is_there_again(void) {
    struct ends ends = ends_open();
    uint64_t cursor = ring_first(ends.consumer);
    for (uint8_t i = 1; i <= 3; i++)
        CHECK(commit(ends.producer, 1000, i));
    ring_publish(ends.producer, &stats);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 1);
    ring_release(ends.consumer, cursor, &stats);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 2);
    attach_again(&ends, &ends.consumer);
    cursor = ring_first(ends.consumer);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 2);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 3);
    CHECK_EQUAL(peek(ends.consumer, &cursor), -1);
    ends_close(&ends);
}

static void discarding_empties_the_ring_and_the_next_record_arrives(void) {
    struct ends ends = ends_open();
    CHECK(commit(ends.producer, 100, 1));
    ring_publish(ends.producer, &stats);
    ring_discard(ends.consumer, &stats);
    uint64_t cursor = ring_first(ends.consumer);
    CHECK_EQUAL(ring_used_bytes(ends.consumer), 0);
    CHECK_EQUAL(peek(ends.consumer, &cursor), -1);
    CHECK(commit(ends.producer, 100, 2));
    ring_publish(ends.producer, &stats);
    CHECK_EQUAL(peek(ends.consumer, &cursor), 2);
    ends_close(&ends);
}

int main(void) {
    RUN(a_size_that_is_not_a_power_of_two_in_bounds_is_refused);
    RUN(an_unsealed_memory_is_refused);
    RUN(a_memory_of_another_size_is_refused);
    RUN(memory_that_is_not_a_ring_is_refused);
    RUN(a_ring_with_one_thing_wrong_is_refused);
    RUN(a_ring_fuller_than_its_size_is_refused);
    RUN(a_record_over_the_end_lies_in_one_piece);
    RUN(a_ring_fills_to_its_last_byte_and_no_further);
    RUN(a_commit_is_seen_at_publish_and_not_before);
    RUN(what_a_killed_producer_did_not_publish_has_never_been);
    RUN(what_a_killed_consumer_did_not_release_is_there_again);
    RUN(discarding_empties_the_ring_and_the_next_record_arrives);
    return EXIT_SUCCESS;
}
