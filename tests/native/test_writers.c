/* The two writers where their far side is missing or refuses: every packet is delivered or counted
 * with its reason, once. The loops run in this thread: a message that waits on the channel ends
 * them as soon as they have nothing to do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "check.h"
#include "formats.h"
#include "sockets.h"
#include "outbound/link_writer.h"
#include "loop/loop.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, PACKET = 100, N_PACKETS = 3 /* each record says so many */ };

struct writer {
    int far[2]; /* device or link: the loop's end, the test's */
    struct lane_memory lane;
    struct worker_thread worker;
};

static void writer_open(struct writer *writer, enum stats_role role, int socket_type) {
    *writer = (struct writer){0};
    lane_memory_open(&writer->lane, RING_BYTES);
    pair_open(writer->far, socket_type | SOCK_NONBLOCK);
    worker_open(&writer->worker, role, WIRE_PLAIN, MODE_TUN, &writer->lane, writer->far[0]);
}

static void writer_close(struct writer *writer) {
    worker_close(&writer->worker);
    lane_memory_close(&writer->lane);
    pair_close(writer->far);
}

static void set_link(struct writer *writer) {
    struct link_format format = plain_format(MODE_TUN, true);
    CHECK_EQUAL(loop_attach_link(writer->worker.loop, 0, 1, writer->far[0], &format), 0);
}

static void publish(struct writer *writer, size_t n_records, uint64_t enqueued_ns) {
    for (size_t i = 0; i < n_records; i++) {
        struct ring_record *record =
            lane_commit(&writer->lane, (struct ring_record){.length = PACKET,
                                                            .n_packets = N_PACKETS,
                                                            .n_bytes = PACKET,
                                                            .enqueued_ns = enqueued_ns});
        memset(ring_payload(record), (int)i, PACKET);
    }
    lane_publish(&writer->lane);
}

static uint64_t delivered(struct writer *writer) {
    return stats_read_counter(writer->lane.stats, writer->worker.role, COUNTER_packets);
}

/* -- link-writer ------------------------------------------------------------------------------- */

static void without_a_link_a_packet_waits_a_second_and_is_then_counted(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    publish(&writer, 5, clock_now_ns() - 1100000000ull);
    publish(&writer, 2, clock_now_ns());
    worker_start(&writer.worker);
    usleep(300 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_link_writer_no_link), 5 * N_PACKETS);
    CHECK_EQUAL(delivered(&writer), 0);
    set_link(&writer); /* in time for the other two */
    worker_start(&writer.worker);
    usleep(50 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(delivered(&writer), 2 * N_PACKETS);
    writer_close(&writer);
}

/* The reader's clock may be ahead of the moment at which the writer looked at its own. */
static void a_packet_younger_than_the_look_is_not_taken_for_an_old_one(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    publish(&writer, 1, clock_now_ns() + 50000000);
    CHECK_EQUAL(worker_run(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_link_writer_no_link), 0);
    writer_close(&writer);
}

/* What was half out is lost with its link, and counted; nothing behind it is. */
static void the_frame_cut_by_a_broken_link_is_counted_and_the_next_go_over_the_next(void) {
    struct writer writer;
    uint8_t bytes[4096];
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    set_send_buffer(writer.far[0], 1);
    set_link(&writer);
    publish(&writer, 200, clock_now_ns());
    CHECK_EQUAL(worker_run(&writer.worker), LOOP_DOORBELL);
    uint64_t n_records = delivered(&writer) / N_PACKETS;
    CHECK(n_records > 0 && n_records < 200);
    CHECK(!link_queue_is_empty(
        &link_writer_of(writer.worker.loop)->links[0]->queue)); /* stopped inside one */
    pair_close(writer.far);
    pair_open(writer.far, SOCK_STREAM | SOCK_NONBLOCK);
    set_link(&writer);
    CHECK_EQUAL(worker_run(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_link_writer_link_ended), N_PACKETS);
    CHECK_EQUAL(delivered(&writer), 199 * N_PACKETS);
    CHECK(read(writer.far[1], bytes, sizeof bytes) >= PACKET);
    for (int i = 0; i < PACKET; i++)
        CHECK_EQUAL(bytes[i], (uint8_t)(n_records + 1)); /* the record's number, from its start */
    writer_close(&writer);
}

static void a_broken_link_is_reported_and_nothing_is_counted_as_sent(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    set_link(&writer);
    close(writer.far[1]);
    publish(&writer, 4, clock_now_ns());
    CHECK_EQUAL(loop_run(writer.worker.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(writer.worker.loop)->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(writer.worker.loop)->error, EPIPE);
    CHECK_EQUAL(delivered(&writer), 0);
    CHECK(ring_used_bytes(writer.lane.ring) > 0);
    writer.far[1] = dup(writer.far[0]);
    writer_close(&writer);
}

/* -- both -------------------------------------------------------------------------------------- */

static void check_corrupt_ring(enum stats_role role, int socket_type, enum stats_drop drop) {
    struct writer writer;
    uint8_t bytes[2 * PACKET];
    writer_open(&writer, role, socket_type);
    if (role == ROLE_link_writer)
        set_link(&writer);
    publish(&writer, 1, clock_now_ns());
    lane_commit(&writer.lane, (struct ring_record){0})->offset = 7;
    lane_publish(&writer.lane);
    worker_start(&writer.worker);
    usleep(100 * 1000);
    publish(&writer, 1, clock_now_ns());
    usleep(100 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, drop), 1);
    CHECK_EQUAL(delivered(&writer), 2 * N_PACKETS); /* the one before and the one after */
    CHECK_EQUAL(read(writer.far[1], bytes, PACKET), PACKET);
    CHECK_EQUAL(read(writer.far[1], bytes, PACKET), PACKET);
    writer_close(&writer);
}

static void a_corrupt_ring_is_emptied_and_counted_and_the_next_frame_passes(void) {
    check_corrupt_ring(ROLE_link_writer, SOCK_STREAM, DROP_link_writer_ring_corrupt);
    check_corrupt_ring(ROLE_tun_writer, SOCK_SEQPACKET, DROP_tun_writer_ring_corrupt);
}

/* writev of nothing takes nothing: such a record stays at the front until another comes. */
static void a_record_without_a_byte_does_not_make_the_link_writer_spin(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    set_link(&writer);
    lane_commit(&writer.lane, (struct ring_record){.enqueued_ns = clock_now_ns()});
    lane_publish(&writer.lane);
    worker_start(&writer.worker);
    usleep(50 * 1000);
    publish(&writer, 1, clock_now_ns());
    usleep(50 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(delivered(&writer), N_PACKETS);
    CHECK(stats_read_call(writer.lane.stats, ROLE_link_writer, CALL_writev) < 10);
    writer_close(&writer);
}

/* -- tun-writer -------------------------------------------------------------------------------- */

static void what_a_full_device_refuses_is_counted(void) {
    struct writer writer;
    uint8_t bytes[2 * PACKET];
    uint64_t n_read = 0;
    writer_open(&writer, ROLE_tun_writer, SOCK_SEQPACKET);
    publish(&writer, 500, clock_now_ns());
    worker_start(&writer.worker);
    usleep(100 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    while (read(writer.far[1], bytes, sizeof bytes) == PACKET)
        n_read++;
    CHECK(n_read > 0 && n_read < 500);
    CHECK_EQUAL(delivered(&writer), n_read * N_PACKETS);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_tun_writer_device_full),
                (500 - n_read) * N_PACKETS);
    CHECK_EQUAL(ring_used_bytes(writer.lane.ring), 0);
    writer_close(&writer);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); /* as Python has it */
    RUN(without_a_link_a_packet_waits_a_second_and_is_then_counted);
    RUN(the_frame_cut_by_a_broken_link_is_counted_and_the_next_go_over_the_next);
    RUN(a_broken_link_is_reported_and_nothing_is_counted_as_sent);
    RUN(a_corrupt_ring_is_emptied_and_counted_and_the_next_frame_passes);
    RUN(what_a_full_device_refuses_is_counted);
    RUN(a_record_without_a_byte_does_not_make_the_link_writer_spin);
    RUN(a_packet_younger_than_the_look_is_not_taken_for_an_old_one);
    return EXIT_SUCCESS;
}
