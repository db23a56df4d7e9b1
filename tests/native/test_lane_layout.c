/* What two lanes write: a ring between their tun-readers is all that both can, and its lines have one
 * writer each while both are awake. (tests/netns/test_lane_memory.py: what each worker maps.) */
#define _GNU_SOURCE
#include <string.h>
#include <sys/eventfd.h>

#include "check.h"
#include "fastun.h"
#include "lanes.h"
#include "shared/peer_table.h"
#include "shared/ring.h"

enum {
    SIZE = RING_SIZE_MIN,
    LINE = 64,
    N_LINES = (RING_DATA_OFFSET + SIZE) / LINE,
    FIRST_DATA_LINE = RING_DATA_OFFSET / LINE,
    N_ROUNDS = 3000, /* several times around the ring */
};

static struct stats_block stats;
static uint8_t before[RING_DATA_OFFSET + SIZE];

struct lines {
    bool written[N_LINES];
};

static void look(const struct ring *ring) {
    memcpy(before, ring->shared, sizeof before);
}

/* Notes the lines that differ from what they were at the last look. */
static void note(const struct ring *ring, struct lines *lines) {
    const uint8_t *now = (const uint8_t *)ring->shared;
    for (int i = 0; i < N_LINES; i++)
        if (memcmp(before + i * LINE, now + i * LINE, LINE) != 0)
            lines->written[i] = true;
}

static int line_of(size_t offset) {
    return (int)(offset / LINE);
}

static void give(struct ring *ring, uint32_t length, uint8_t content) {
    struct ring_record *record = ring_reserve(ring, sizeof *record + length);
    CHECK(record != NULL);
    *record = (struct ring_record){
        .offset = sizeof *record, .length = length, .n_packets = 1, .enqueued_ns = content};
    memset(ring_payload(record), content, length);
    ring_commit(ring, record);
    ring_publish(ring, &stats);
}

static void take(struct ring *ring) {
    uint64_t cursor = ring_first(ring);
    bool corrupt = false;
    CHECK(ring_peek(ring, &cursor, &corrupt) != NULL && !corrupt);
    ring_release(ring, cursor, &stats);
}

static void a_ring_between_lanes_has_lines_of_one_writer_each(void) {
    static struct lines givers, takers;
    int fd;
    struct ring *giver = ring_create(SIZE, &fd), *taker = ring_attach(fd, SIZE);
    CHECK(giver != NULL && taker != NULL);
    for (int i = 0; i < N_ROUNDS; i++) {
        look(giver);
        give(giver, (uint32_t)(1 + i * 37 % 700), (uint8_t)(i + 1));
        note(giver, &givers);
        look(giver);
        take(taker);
        note(giver, &takers);
    }
    for (int i = 0; i < N_LINES; i++) {
        bool is_head = i == line_of(offsetof(struct ring_shared, head));
        CHECK(givers.written[i] == (is_head || i >= FIRST_DATA_LINE));
        CHECK(takers.written[i] == (i == line_of(offsetof(struct ring_shared, tail))));
    }
    ring_detach(giver);
    ring_detach(taker);
    close(fd);
}

static void both_write_the_sleepers_line_and_no_other_when_one_wakes_the_other(void) {
    static struct lines givers, takers;
    int fd, sleeper = line_of(offsetof(struct ring_shared, consumer));
    struct ring *giver = ring_create(SIZE, &fd), *taker = ring_attach(fd, SIZE);
    CHECK(giver != NULL && taker != NULL);
    giver->wake_fd = eventfd(0, EFD_NONBLOCK);
    look(giver);
    CHECK(ring_prepare_poll(taker, ring_first(taker)));
    note(giver, &takers);
    look(giver);
    give(giver, 100, 1);
    note(giver, &givers);
    look(giver);
    waiter_cancel(&taker->shared->consumer);
    take(taker);
    note(giver, &takers);
    CHECK(givers.written[sleeper] && takers.written[sleeper]);
    for (int i = 0; i < N_LINES; i++)
        CHECK(i == sleeper || !(givers.written[i] && takers.written[i]));
    close(giver->wake_fd);
    ring_detach(giver);
    ring_detach(taker);
    close(fd);
}

static void nothing_else_lies_in_a_line_with_what_a_worker_writes_for_each_packet(void) {
    CHECK_EQUAL(sizeof(struct peer_outbound) % LINE, 0);
    CHECK_EQUAL(sizeof(struct peer_link) % LINE, 0);
    CHECK_EQUAL(sizeof(struct peer_inbound) % LINE, 0);
    CHECK_EQUAL(sizeof(union stats_part) % PART_BYTES, 0);
    CHECK_EQUAL(RING_RECORD_ALIGN % LINE, 0);
    CHECK_EQUAL(sizeof(struct waiter) <= LINE, true);
}

int main(void) {
    RUN(a_ring_between_lanes_has_lines_of_one_writer_each);
    RUN(both_write_the_sleepers_line_and_no_other_when_one_wakes_the_other);
    RUN(nothing_else_lies_in_a_line_with_what_a_worker_writes_for_each_packet);
    return EXIT_SUCCESS;
}
