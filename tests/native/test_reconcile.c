/* Workers that were killed between counting packets and moving the ring's index: whatever the
 * moment, what their successors count adds up. The predecessor is played here, step by step. */
#define _GNU_SOURCE
#include "loop/reconcile.h"

#include "check.h"
#include "outbound/link_writer.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    RECORD_SPACE = 256,
    RECORD_STEP = 192, /* in the ring: header and 100 bytes, up to a multiple of 64 */
};

static struct lane_memory lane;
static struct worker_thread worker;

static void lane_open(void) {
    lane_memory_open(&lane, RING_SIZE_MIN);
}

static void lane_close(void) {
    lane_memory_close(&lane);
}

static uint64_t counted(enum stats_role role) {
    return stats_read_counter(lane.stats, role, COUNTER_packets);
}

static uint64_t dropped(enum stats_drop drop) {
    return stats_read_drop(lane.stats, drop);
}

/* A worker starts; what it found is its loop's. */
static struct loop *start(enum stats_role role) {
    worker_open(&worker, role, WIRE_PLAIN, MODE_TUN, &lane, -1);
    return worker.loop;
}

static void end(void) {
    worker_close(&worker);
}

static void restart(enum stats_role role) {
    start(role);
    end();
}

static void commit(struct ring *ring, uint32_t n_packets) {
    struct ring_record *record = ring_reserve(ring, RECORD_SPACE);
    CHECK(record != NULL);
    *record = (struct ring_record){.offset = sizeof *record, .length = 100, .n_packets = n_packets};
    ring_commit(ring, record);
}

static void publish(struct ring *ring, struct stats_block *stats, uint32_t n_packets) {
    commit(ring, n_packets);
    ring_publish(ring, stats);
}

/* -- readers ----------------------------------------------------------------------------------- */

static const struct {
    enum stats_role role;
    enum stats_drop reason, other;
} readers[] = {
    {ROLE_tun_reader, DROP_tun_reader_worker_died, DROP_tun_reader_no_peer},
    {ROLE_link_reader, DROP_link_reader_worker_died, DROP_link_reader_bad_tag},
};

static void what_a_reader_counted_and_did_not_publish_is_dropped_once(void) {
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        lane_open();
        struct loop *loop = start(readers[i].role);
        stats_count(loop->stats, 7, 700);
        publish(loop->ring, loop->stats, 7);
        stats_count(loop->stats, 2, 200);
        stats_dropped(loop->stats, readers[i].other, 2);
        stats_count(loop->stats, 40, 4000); /* a burst, */
        commit(loop->ring, 30);             /* or a frame that is being split */
        end();
        restart(readers[i].role);
        CHECK_EQUAL(dropped(readers[i].reason), 40);
        restart(readers[i].role);
        CHECK_EQUAL(dropped(readers[i].reason), 40);
        CHECK_EQUAL(counted(readers[i].role), 7 + dropped(readers[i].reason) + 2);
        lane_close();
    }
}

static void a_drop_of_which_only_half_was_counted_is_a_drop(void) {
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        lane_open();
        struct loop *loop = start(readers[i].role);
        stats_count(loop->stats, 3, 300); /* and not its reason */
        end();
        restart(readers[i].role);
        CHECK_EQUAL(dropped(readers[i].reason), 3);
        lane_close();
    }
}

static void what_was_published_is_not_lost_however_often_and_wherever_the_ring_is(void) {
    lane_open();
    uint64_t n_packets = 0, cursor = ring_first(lane.ring);
    bool corrupt = false;
    for (uint32_t round = 1; round < 3000; round++) {
        struct loop *loop = start(ROLE_tun_reader);
        for (uint32_t i = 0; i < round % 4; i++) {
            stats_count(loop->stats, round, 100);
            publish(loop->ring, loop->stats, round);
            n_packets += round;
        }
        end();
        lane.ring->peer = cursor; /* as a consumer, on this handle */
        while (ring_peek(lane.ring, &cursor, &corrupt) != NULL)
            CHECK(!corrupt);
        if (round % 3 == 0)
            ring_release(lane.ring, cursor, &lane.stats->parts[ROLE_link_writer].block);
    }
    restart(ROLE_tun_reader);
    CHECK_EQUAL(counted(ROLE_tun_reader), n_packets);
    CHECK_EQUAL(dropped(DROP_tun_reader_worker_died), 0);
    lane_close();
}

/* The last moment: the ledger is written, head is not. */
static void a_burst_whose_head_was_not_moved_is_not_published(void) {
    lane_open();
    struct loop *loop = start(ROLE_tun_reader);
    for (uint32_t round = 0; round < 2; round++) { /* either entry of the ledger */
        stats_count(loop->stats, 5, 500);
        publish(loop->ring, loop->stats, 5);
        stats_count(loop->stats, 6, 600);
        uint64_t head = atomic_load(&loop->ring->shared->head);
        publish(loop->ring, loop->stats, 6);
        atomic_store(&loop->ring->shared->head, head);
        end();
        loop = start(ROLE_tun_reader);
        CHECK_EQUAL(dropped(DROP_tun_reader_worker_died), 6 * (round + 1));
        CHECK_EQUAL(loop->ring->n_packets, 5 * (round + 1));
    }
    end();
    lane_close();
}

/* -- writers ----------------------------------------------------------------------------------- */

/* `n` records of 3 packets each are in the ring, and of the first `n_counted` packets a writer has
 * said what became of them. */
static struct loop *start_writer(enum stats_role role, size_t n, uint64_t n_counted) {
    lane_open();
    for (size_t i = 0; i < n; i++)
        publish(lane.ring, &lane.stats->parts[ROLE_tun_reader].block, 3);
    struct loop *loop = start(role);
    stats_count(loop->stats, n_counted, 100);
    return loop;
}

static void release(struct loop *loop, size_t n) {
    uint64_t cursor = ring_first(loop->ring);
    bool corrupt = false;
    for (; n > 0; n--)
        CHECK(ring_peek(loop->ring, &cursor, &corrupt) != NULL);
    ring_release(loop->ring, cursor, loop->stats);
}

static void what_a_writer_counted_and_did_not_release_is_counted_once(void) {
    const enum stats_role roles[] = {ROLE_link_writer, ROLE_tun_writer};
    for (int i = 0; i < 2; i++)
        for (size_t n_released = 0; n_released <= 4; n_released++) {
            struct loop *loop = start_writer(roles[i], 8, 12);
            release(loop, n_released);
            end();
            loop = start(roles[i]);
            uint64_t already = 12 - 3 * n_released;
            CHECK_EQUAL(loop->n_counted_already, already);
            CHECK_EQUAL(reconcile_uncounted(loop, 2), already > 2 ? 0 : 2 - already);
            CHECK_EQUAL(reconcile_uncounted(loop, 100), already > 2 ? 102 - already : 100);
            CHECK_EQUAL(loop->n_counted_already, 0);
            CHECK_EQUAL(dropped(DROP_link_writer_worker_died), 0);
            end();
            lane_close();
        }
}

static void drops_were_counted_as_well(void) {
    struct loop *loop = start_writer(ROLE_tun_writer, 8, 3);
    stats_dropped(loop->stats, DROP_tun_writer_device_full, 6);
    end();
    loop = start(ROLE_tun_writer);
    CHECK_EQUAL(loop->n_counted_already, 9);
    end();
    lane_close();
}

/* Of the first `n_begun` records it had begun to write the last; of the others it had counted. */
static void what_a_tun_writer_had_begun_to_write_is_not_written_again(void) {
    for (size_t n_begun = 0; n_begun <= 8; n_begun++)
        for (size_t n_uncounted = 0; n_uncounted <= 1 && n_uncounted <= n_begun; n_uncounted++) {
            int device[2], n_written = 0;
            uint8_t frame[256];
            struct loop *loop = start_writer(ROLE_tun_writer, 8, 3 * (n_begun - n_uncounted));
            pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
            ring_begin(loop->ring, n_begun * RECORD_STEP);
            end();
            loop = start(ROLE_tun_writer);
            loop->device_fd = device[0];
            CHECK_EQUAL(worker_run(&worker), LOOP_DOORBELL);
            while (recv(device[1], frame, sizeof frame, MSG_DONTWAIT) > 0)
                n_written++;
            CHECK_EQUAL(n_written, 8 - n_begun);
            CHECK_EQUAL(dropped(DROP_tun_writer_worker_died), 3 * n_uncounted);
            CHECK_EQUAL(counted(ROLE_tun_writer), 24 - 3 * n_uncounted);
            end();
            lane_close();
            pair_close(device);
        }
}

/* The neighbour can write the word as well. */
static void a_word_that_no_tun_writer_has_written_leads_nowhere(void) {
    const uint64_t words[] = {1ull << 40, 9 * RECORD_STEP, UINT64_MAX, 2 * RECORD_STEP,
                              4 * RECORD_STEP + 1};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct loop *loop = start_writer(ROLE_tun_writer, 8, 9);
        release(loop, 3);
        ring_begin(loop->ring, words[i]);
        end();
        loop = start(ROLE_tun_writer);
        CHECK_EQUAL(ring_first(loop->ring), 3 * RECORD_STEP);
        CHECK_EQUAL(dropped(DROP_tun_writer_worker_died), 0);
        end();
        lane_close();
    }
}

static void a_tun_writer_counts_each_packet_once_whatever_its_predecessor_counted(void) {
    for (uint64_t n_counted = 0; n_counted <= 24; n_counted++) {
        int device[2];
        struct loop *loop = start_writer(ROLE_tun_writer, 8, n_counted);
        pair_open(device, SOCK_DGRAM);
        end();
        loop = start(ROLE_tun_writer);
        loop->device_fd = device[0];
        CHECK_EQUAL(worker_run(&worker), LOOP_DOORBELL);
        CHECK_EQUAL(counted(ROLE_tun_writer), 24);
        CHECK_EQUAL(loop->n_counted_already, 0);
        end();
        lane_close();
        pair_close(device);
    }
}

static void so_does_a_link_writer_sent_or_dropped(void) {
    struct loop *loop = start_writer(ROLE_link_writer, 8, 9);
    end();
    loop = start(ROLE_link_writer);
    link_writer_sent(link_writer_of(loop), 0, 5, 500, 1);
    link_writer_dropped(link_writer_of(loop), 0, DROP_link_writer_no_link, 5);
    CHECK_EQUAL(counted(ROLE_link_writer), 9);
    CHECK_EQUAL(dropped(DROP_link_writer_no_link), 1);
    link_writer_sent(link_writer_of(loop), 0, 14, 1400, 1);
    CHECK_EQUAL(counted(ROLE_link_writer), 23);
    end();
    lane_close();
}

/* Released, and neither delivered nor dropped yet. With the ring empty and not. */
static void what_was_in_a_links_queue_is_dropped_once(void) {
    for (size_t n_released = 5; n_released <= 8; n_released++) {
        struct loop *loop = start_writer(ROLE_link_writer, 8, 6);
        release(loop, n_released);
        end();
        for (int i = 0; i < 2; i++) {
            loop = start(ROLE_link_writer);
            CHECK_EQUAL(loop->n_counted_already, 0);
            CHECK_EQUAL(dropped(DROP_link_writer_worker_died), 3 * n_released - 6);
            end();
        }
        lane_close();
    }
}

int main(void) {
    RUN(what_a_reader_counted_and_did_not_publish_is_dropped_once);
    RUN(a_drop_of_which_only_half_was_counted_is_a_drop);
    RUN(what_was_published_is_not_lost_however_often_and_wherever_the_ring_is);
    RUN(a_burst_whose_head_was_not_moved_is_not_published);
    RUN(what_a_writer_counted_and_did_not_release_is_counted_once);
    RUN(drops_were_counted_as_well);
    RUN(what_a_tun_writer_had_begun_to_write_is_not_written_again);
    RUN(a_word_that_no_tun_writer_has_written_leads_nowhere);
    RUN(a_tun_writer_counts_each_packet_once_whatever_its_predecessor_counted);
    RUN(so_does_a_link_writer_sent_or_dropped);
    RUN(what_was_in_a_links_queue_is_dropped_once);
    return EXIT_SUCCESS;
}
