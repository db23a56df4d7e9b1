/* The tun-reader and the link-writer as they share the work: whoever writes, a stream keeps its
 * framing, each packet is counted once, and a link that the link-writer has let go of is not written.
 */
#define _GNU_SOURCE
#include <poll.h>

#include "check.h"
#include "formats.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "sockets.h"
#include "two_workers.h"

enum { MESSAGE = STREAM_LENGTH_PREFIX + GIVEN_MAX, PACKET = 100 };

static uint32_t n_got;

static void open_workers(bool hands_over) {
    struct link_format format = plain_format(MODE_TUN, false);
    open_lane(hands_over);
    n_got = 0;
    worker_open(&two_writer, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &two_lane, -1);
    worker_open(&two_reader, ROLE_tun_reader, WIRE_PLAIN, MODE_TUN, &two_lane, two_device[0]);
    CHECK_EQUAL(loop_attach_link(two_writer.loop, 0, LINK_ID, two_stream[0], &format), 0);
    CHECK_EQUAL(loop_attach_link(two_reader.loop, 0, LINK_ID, two_stream[0], &format), 0);
    worker_start(&two_writer);
    if (hands_over)
        await_sleep();
    worker_start(&two_reader);
}

/* -- what the device gives, and the peer gets -------------------------------------------------- */

static void read_all(uint8_t *bytes, size_t length) {
    struct pollfd end = {.fd = two_stream[1], .events = POLLIN};
    for (size_t done = 0; done < length;) {
        CHECK_EQUAL(poll(&end, 1, PATIENCE_MS), 1);
        ssize_t n = read(two_stream[1], bytes + done, length - done);
        CHECK(n > 0);
        done += (size_t)n;
    }
}

static void get(void) {
    uint8_t message[MESSAGE];
    read_all(message, STREAM_LENGTH_PREFIX);
    size_t length = be16_read(message);
    CHECK(length >= IPV4_HEADER_SIZE + 4 && length <= sizeof message);
    read_all(message, length);
    CHECK_EQUAL(message[0], 0x45);
    CHECK_EQUAL(be32_read(message + IPV4_HEADER_SIZE), n_got);
    n_got++;
}

static void check_nothing_comes(void) {
    struct pollfd end = {.fd = two_stream[1], .events = POLLIN};
    CHECK_EQUAL(poll(&end, 1, 50), 0);
}

/* -- streams ----------------------------------------------------------------------------------- */

static void single_packets_do_not_wake_the_link_writer(void) {
    open_workers(true);
    for (int i = 0; i < 50; i++) {
        two_give(PACKET);
        get();
    }
    check_all_counted();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 50);
    CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_bytes), 50 * PACKET);
    CHECK_EQUAL(stats_read_call(two_lane.stats, ROLE_tun_reader, CALL_futex_wake), 0);
    close_workers();
}

static void each_does_its_own_work_when_that_is_wanted(void) {
    open_workers(false);
    for (int i = 0; i < 20; i++) {
        two_give(PACKET);
        get();
    }
    check_all_counted();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 0);
    close_workers();
}

/* The peer reads in fits and starts, so that the socket is full now and then. */
static void a_stream_keeps_its_framing_whoever_writes(void) {
    open_workers(true);
    for (uint32_t round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < 1 + round % 9; i++)
            two_give(64 + 300 * (round % 6));
        if (round % 8 == 0) { /* the gateway has something to say to both */
            worker_stop(&two_writer);
            worker_stop(&two_reader);
            worker_start(&two_reader);
            worker_start(&two_writer);
        }
        if (round % 3 == 0)
            usleep(100);
        while (n_got < two_n_given && round % 20 > 10)
            get();
    }
    while (n_got < two_n_given)
        get();
    check_all_counted();
    CHECK(counted(ROLE_tun_reader, COUNTER_in_place) > 0);
    close_workers();
}

static void a_link_that_the_link_writer_has_let_go_of_is_not_written(void) {
    open_workers(true);
    two_give(PACKET);
    get();
    worker_stop(&two_writer);
    loop_detach_link(two_writer.loop, 0);
    worker_start(&two_writer);
    two_give(PACKET);
    check_nothing_comes();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 1);
    close_workers();
}

/* -- a holder that does a part, or dies: the test plays it ------------------------------------- */

static void open_writer_alone(void) {
    struct link_format format = plain_format(MODE_TUN, false);
    open_lane(true);
    n_got = 0;
    worker_open(&two_writer, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &two_lane, -1);
    CHECK_EQUAL(loop_attach_link(two_writer.loop, 0, LINK_ID, two_stream[0], &format), 0);
    worker_start(&two_writer);
    await_sleep();
}

/* Puts a message in the ring, and takes the token. */
static struct ring_record *hold(struct ring *end) {
    struct ring_record *record =
        lane_commit(&two_lane, (struct ring_record){.length = STREAM_LENGTH_PREFIX + PACKET,
                                                    .n_packets = 1,
                                                    .n_bytes = PACKET,
                                                    .link_id = LINK_ID});
    be16_write(ring_payload(record), PACKET);
    two_make_packet(ring_payload(record) + STREAM_LENGTH_PREFIX, PACKET);
    CHECK(ring_publish_and_take(two_lane.ring, SIZE_MAX, end, &two_lane.ring_stats));
    return record;
}

static void what_a_holder_could_not_write_of_a_message_follows(void) {
    struct ring end;
    for (size_t n = 1; n < STREAM_LENGTH_PREFIX + PACKET; n += 7) {
        open_writer_alone();
        struct ring_record *record = hold(&end);
        CHECK_EQUAL(write(two_stream[0], ring_payload(record), n), n);
        atomic_store(&two_lane.ring->shared->written_bytes, (uint32_t)n);
        ring_give_back(two_lane.ring, &end, &two_lane.ring_stats);
        /* a socket with room reports none, so one more record is not to overtake */
        struct ring_record *next =
            lane_commit(&two_lane, (struct ring_record){.length = STREAM_LENGTH_PREFIX + PACKET,
                                                        .n_packets = 1,
                                                        .n_bytes = PACKET,
                                                        .link_id = LINK_ID});
        be16_write(ring_payload(next), PACKET);
        two_make_packet(ring_payload(next) + STREAM_LENGTH_PREFIX, PACKET);
        lane_publish(&two_lane);
        get();
        get();
        worker_stop(&two_writer);
        CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), 2);
        CHECK_EQUAL(lane_dropped_in_all(&two_lane), 0);
        worker_close(&two_writer);
        close_lane();
    }
}

static void a_holder_killed_in_a_message_ends_its_stream_and_no_other(void) {
    struct ring end;
    open_writer_alone();
    hold(&end);
    atomic_store(&two_lane.ring->shared->written_stream, 1);
    CHECK_EQUAL(ring_producer_is_dead(two_lane.ring), 1);
    CHECK_EQUAL(worker_join(&two_writer), LOOP_DOORBELL); /* the gateway's */
    loop_take_bell(two_writer.loop);
    CHECK_EQUAL(loop_run(two_writer.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(two_writer.loop)->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(two_writer.loop)->slot, 0);
    CHECK_EQUAL(loop_event(two_writer.loop)->link_id, LINK_ID);
    check_nothing_comes();
    worker_close(&two_writer);
    close_lane();
}

static void a_holder_killed_between_messages_costs_nothing(void) {
    for (int is_counted = 0; is_counted < 2; is_counted++) {
        struct ring end;
        open_writer_alone();
        hold(&end);
        if (is_counted)
            stats_count(&two_lane.stats->parts[ROLE_link_writer].block, 1, PACKET);
        CHECK_EQUAL(ring_producer_is_dead(two_lane.ring), 1);
        CHECK_EQUAL(worker_join(&two_writer), LOOP_DOORBELL);
        loop_take_bell(two_writer.loop);
        worker_start(&two_writer);
        get();
        worker_stop(&two_writer);
        CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), 1);
        CHECK_EQUAL(lane_dropped_in_all(&two_lane), 0);
        worker_close(&two_writer);
        close_lane();
    }
}

int main(void) {
    RUN(single_packets_do_not_wake_the_link_writer);
    RUN(each_does_its_own_work_when_that_is_wanted);
    RUN(a_stream_keeps_its_framing_whoever_writes);
    RUN(a_link_that_the_link_writer_has_let_go_of_is_not_written);
    RUN(what_a_holder_could_not_write_of_a_message_follows);
    RUN(a_holder_killed_in_a_message_ends_its_stream_and_no_other);
    RUN(a_holder_killed_between_messages_costs_nothing);
    return EXIT_SUCCESS;
}
