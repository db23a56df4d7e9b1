/* The two writers where their far side is missing or refuses: every packet is delivered or counted
 * with its reason, once. The loops run in this thread: a message that waits on the channel ends
 * them as soon as they have nothing to do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "formats.h"
#include "outbound/link_writer.h"
#include "loop/loop.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, PACKET = 100, N_PACKETS = 3 /* each record says so many */ };

struct writer {
    int ring_fd, stats_fd, peers_fd, far[2]; /* device or link: the loop's end, the test's */
    struct ring *producer;
    struct stats *stats;
    struct peer_table *peers;
    struct stats_block producer_stats;
    struct worker_thread worker;
};

static void writer_open(struct writer *writer, enum stats_role role, int socket_type) {
    *writer = (struct writer){0};
    writer->producer = ring_create(RING_BYTES, &writer->ring_fd);
    writer->stats = stats_create(&writer->stats_fd);
    writer->peers = peer_table_create(&writer->peers_fd);
    CHECK(writer->producer != NULL && writer->stats != NULL && writer->peers != NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, socket_type | SOCK_NONBLOCK, 0, writer->far), 0);
    const struct worker_lane lane = {WIRE_PLAIN,    MODE_TUN,      RING_BYTES,
                                     writer->stats, writer->peers, -1};
    worker_open(&writer->worker, role, &lane, writer->ring_fd, writer->far[0]);
}

static void writer_close(struct writer *writer) {
    worker_close(&writer->worker);
    ring_detach(writer->producer);
    stats_detach(writer->stats);
    peer_table_detach(writer->peers);
    close(writer->ring_fd);
    close(writer->stats_fd);
    close(writer->peers_fd);
    close(writer->far[0]);
    close(writer->far[1]);
}

static void set_link(struct writer *writer) {
    struct link_format format = plain_format(MODE_TUN, true);
    CHECK_EQUAL(loop_attach_link(writer->worker.loop, 0, 1, writer->far[0], &format), 0);
}

static void publish(struct writer *writer, size_t n_records, uint64_t enqueued_ns) {
    for (size_t i = 0; i < n_records; i++) {
        struct ring_record *record = ring_reserve(writer->producer, 2 * PACKET);
        CHECK(record != NULL);
        *record = (struct ring_record){.offset = sizeof *record,
                                       .length = PACKET,
                                       .n_packets = N_PACKETS,
                                       .n_bytes = PACKET,
                                       .enqueued_ns = enqueued_ns};
        memset(ring_payload(record), (int)i, PACKET);
        ring_commit(writer->producer, record);
    }
    ring_publish(writer->producer, &writer->producer_stats);
}

static uint64_t delivered(struct writer *writer) {
    return stats_read_counter(writer->stats, writer->worker.role, COUNTER_packets);
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
    CHECK_EQUAL(stats_read_drop(writer.stats, DROP_link_writer_no_link), 5 * N_PACKETS);
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
    CHECK_EQUAL(write(writer.worker.channel[0], "!", 1), 1);
    CHECK_EQUAL(loop_run(writer.worker.loop), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.stats, DROP_link_writer_no_link), 0);
    writer_close(&writer);
}

/* What was half out is lost with its link, and counted; nothing behind it is. */
static void the_frame_cut_by_a_broken_link_is_counted_and_the_next_go_over_the_next(void) {
    struct writer writer;
    uint8_t bytes[4096];
    int least = 1;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    setsockopt(writer.far[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    set_link(&writer);
    publish(&writer, 200, clock_now_ns());
    CHECK_EQUAL(write(writer.worker.channel[0], "!", 1), 1);
    CHECK_EQUAL(loop_run(writer.worker.loop), LOOP_DOORBELL);
    uint64_t n_records = delivered(&writer) / N_PACKETS;
    CHECK(n_records > 0 && n_records < 200);
    CHECK(!link_queue_is_empty(
        &link_writer_of(writer.worker.loop)->links[0]->queue)); /* stopped inside one */
    close(writer.far[0]);
    close(writer.far[1]);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, writer.far), 0);
    set_link(&writer);
    CHECK_EQUAL(loop_run(writer.worker.loop), LOOP_DOORBELL); /* the message still waits */
    CHECK_EQUAL(stats_read_drop(writer.stats, DROP_link_writer_link_ended), N_PACKETS);
    CHECK_EQUAL(delivered(&writer), 199 * N_PACKETS);
    CHECK(read(writer.far[1], bytes, sizeof bytes) >= PACKET);
    for (int i = 0; i < PACKET; i++)
        CHECK_EQUAL(bytes[i], (uint8_t)(n_records + 1)); /* the record's number, from its start */
    writer_close(&writer);
}

static void a_broken_link_is_told_and_nothing_is_counted_as_sent(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    set_link(&writer);
    close(writer.far[1]);
    publish(&writer, 4, clock_now_ns());
    CHECK_EQUAL(loop_run(writer.worker.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(writer.worker.loop)->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(writer.worker.loop)->error, EPIPE);
    CHECK_EQUAL(delivered(&writer), 0);
    CHECK(ring_used_bytes(writer.producer) > 0);
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
    struct ring_record *record = ring_reserve(writer.producer, RING_RECORD_ALIGN);
    *record = (struct ring_record){.offset = sizeof *record};
    ring_commit(writer.producer, record);
    record->offset = 7;
    ring_publish(writer.producer, &writer.producer_stats);
    worker_start(&writer.worker);
    usleep(100 * 1000);
    publish(&writer, 1, clock_now_ns());
    usleep(100 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_drop(writer.stats, drop), 1);
    CHECK_EQUAL(delivered(&writer), 2 * N_PACKETS); /* the one before and the one after */
    CHECK_EQUAL(read(writer.far[1], bytes, PACKET), PACKET);
    CHECK_EQUAL(read(writer.far[1], bytes, PACKET), PACKET);
    writer_close(&writer);
}

static void a_corrupt_ring_is_emptied_and_counted_and_the_next_frame_passes(void) {
    check_corrupt_ring(ROLE_link_writer, SOCK_STREAM, DROP_link_writer_ring_corrupt);
    check_corrupt_ring(ROLE_tun_writer, SOCK_SEQPACKET, DROP_tun_writer_ring_corrupt);
}

/* writev of nothing takes nothing: such a record stands at the front until another comes. */
static void a_record_without_a_byte_does_not_make_the_link_writer_spin(void) {
    struct writer writer;
    writer_open(&writer, ROLE_link_writer, SOCK_STREAM);
    set_link(&writer);
    struct ring_record *record = ring_reserve(writer.producer, RING_RECORD_ALIGN);
    *record = (struct ring_record){.offset = sizeof *record, .enqueued_ns = clock_now_ns()};
    ring_commit(writer.producer, record);
    ring_publish(writer.producer, &writer.producer_stats);
    worker_start(&writer.worker);
    usleep(50 * 1000);
    publish(&writer, 1, clock_now_ns());
    usleep(50 * 1000);
    CHECK_EQUAL(worker_stop(&writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(delivered(&writer), N_PACKETS);
    CHECK(stats_read_call(writer.stats, ROLE_link_writer, CALL_writev) < 10);
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
    CHECK_EQUAL(stats_read_drop(writer.stats, DROP_tun_writer_device_full),
                (500 - n_read) * N_PACKETS);
    CHECK_EQUAL(ring_used_bytes(writer.producer), 0);
    writer_close(&writer);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); /* as Python has it */
    RUN(without_a_link_a_packet_waits_a_second_and_is_then_counted);
    RUN(the_frame_cut_by_a_broken_link_is_counted_and_the_next_go_over_the_next);
    RUN(a_broken_link_is_told_and_nothing_is_counted_as_sent);
    RUN(a_corrupt_ring_is_emptied_and_counted_and_the_next_frame_passes);
    RUN(what_a_full_device_refuses_is_counted);
    RUN(a_record_without_a_byte_does_not_make_the_link_writer_spin);
    RUN(a_packet_younger_than_the_look_is_not_taken_for_an_old_one);
    return EXIT_SUCCESS;
}
