/* The link-reader and the tun-writer as they share the work: the device is a pair of sockets, whose
 * room ends while nothing reads. Whichever writes, each packet is counted once, and none overtakes. */
#define _GNU_SOURCE
#include <poll.h>

#include "check.h"
#include "formats.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "sockets.h"
#include "worker_thread.h"

enum { RING_BYTES = 1 << 20, PATIENCE_MS = 5000, FRAME_MAX = 2048 };

static struct lane_memory lane;
static struct worker_thread reader, writer;
static int stream[2], device[2]; /* [0]: the workers' */
static uint32_t n_sent, n_got;
static bool adds_wake_fd;

static void open_workers(bool hands_over, int device_buffer) {
    struct link_format format = plain_format(MODE_TUN, false);
    n_sent = n_got = 0;
    lane_memory_open(&lane, RING_BYTES);
    lane.hands_over = hands_over;
    if (adds_wake_fd)
        lane_memory_add_wake_fd(&lane);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    set_send_buffer(device[0], device_buffer);
    worker_open(&reader, ROLE_link_reader, WIRE_PLAIN, MODE_TUN, &lane, device[0]);
    worker_open(&writer, ROLE_tun_writer, WIRE_PLAIN, MODE_TUN, &lane, device[0]);
    CHECK_EQUAL(loop_attach_link(reader.loop, 0, 1, stream[0], &format), 0);
    worker_start(&writer);
    worker_start(&reader);
}

static void close_workers(void) {
    worker_stop(&reader);
    worker_stop(&writer);
    worker_close(&reader);
    worker_close(&writer);
    lane_memory_close(&lane);
    pair_close(stream);
    pair_close(device);
}

/* A packet with its number, as the peer sends it. */
static void send_packet(size_t length) {
    uint8_t message[STREAM_LENGTH_PREFIX + FRAME_MAX] = {0};
    be16_write(message, (uint16_t)length);
    uint8_t *packet = message + STREAM_LENGTH_PREFIX;
    packet[0] = 0x45;
    be16_write(packet + 2, (uint16_t)length);
    be32_write(packet + IPV4_HEADER_SIZE, n_sent++);
    CHECK_EQUAL(write(stream[1], message, STREAM_LENGTH_PREFIX + length),
                STREAM_LENGTH_PREFIX + length);
}

static void receive_packet(void) {
    struct pollfd end = {.fd = device[1], .events = POLLIN};
    uint8_t frame[FRAME_MAX];
    CHECK_EQUAL(poll(&end, 1, PATIENCE_MS), 1);
    CHECK(read(device[1], frame, sizeof frame) > VNET_LENGTH + IPV4_HEADER_SIZE);
    CHECK_EQUAL(be32_read(frame + VNET_LENGTH + IPV4_HEADER_SIZE), n_got);
    n_got++;
}

static void await_empty_ring(void) {
    for (int ms = 0; ring_used_bytes(lane.ring) > 0; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
}

static void await_sleep(uint64_t n_sleeps) {
    for (int ms = 0; stats_read_call(lane.stats, ROLE_tun_writer, CALL_futex_wait) < n_sleeps;
         ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
    usleep(1000);
}

static uint64_t counted(enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(lane.stats, role, counter);
}

static void single_packets_do_not_wake_the_tun_writer(void) {
    open_workers(true, 1 << 20);
    await_sleep(1);
    for (int i = 0; i < 50; i++) {
        send_packet(100);
        receive_packet();
    }
    await_empty_ring();
    CHECK_EQUAL(counted(ROLE_link_reader, COUNTER_in_place), 50);
    CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_packets), 50);
    CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_bytes), 50 * 100);
    CHECK_EQUAL(stats_read_call(lane.stats, ROLE_link_reader, CALL_futex_wake), 0);
    close_workers();
}

static void each_does_its_own_work_when_that_is_wanted(void) {
    open_workers(false, 1 << 20);
    for (int i = 0; i < 20; i++) {
        send_packet(100);
        receive_packet();
    }
    await_empty_ring();
    CHECK_EQUAL(counted(ROLE_link_reader, COUNTER_in_place), 0);
    CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_packets), 20);
    close_workers();
}

/* What the device does not take is the tun-writer's to count. */
static void a_device_without_room_is_the_tun_writers(void) {
    open_workers(true, 1);
    await_sleep(1);
    for (int i = 0; i < 60; i++)
        send_packet(1000);
    while (counted(ROLE_tun_writer, COUNTER_packets) + lane_dropped_in_all(&lane) < 60)
        usleep(1000);
    uint64_t n_full = stats_read_drop(lane.stats, DROP_tun_writer_device_full);
    CHECK(n_full > 0);
    lane_check_dropped(&lane, DROP_tun_writer_device_full, n_full);
    CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_packets) + n_full, 60);
    close_workers();
}

static void none_overtakes_whoever_writes(void) {
    open_workers(true, 1 << 20);
    for (uint32_t round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < 1 + round % 7; i++)
            send_packet(64 + 250 * (round % 5));
        if (round % 16 == 0) { /* the gateway has something to say to both */
            worker_stop(&writer);
            worker_stop(&reader);
            worker_start(&reader);
            worker_start(&writer);
        }
        if (round % 3 == 0)
            usleep(100);
        while (n_got < n_sent)
            receive_packet();
    }
    await_empty_ring();
    CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_packets), n_sent);
    CHECK_EQUAL(lane_dropped_in_all(&lane), 0);
    CHECK(counted(ROLE_link_reader, COUNTER_in_place) > 0);
    close_workers();
}

static void check_calls(enum stats_call call, uint64_t n) {
    CHECK_EQUAL(stats_read_call(lane.stats, ROLE_tun_writer, call), n);
}

/* After a heartbeat it sleeps without one, and is woken by a packet all the same. */
static void an_idle_writer_does_not_wake_until_there_is_a_packet(void) {
    for (int hands_over = 0; hands_over < 2; hands_over++) {
        adds_wake_fd = true;
        open_workers(hands_over, 1 << 20);
        for (int ms = 0; stats_read_call(lane.stats, ROLE_tun_writer, CALL_ppoll) == 0; ms++) {
            CHECK(ms < PATIENCE_MS);
            usleep(1000);
        }
        usleep(WAIT_HEARTBEAT_NS / 1000 + 100 * 1000);
        check_calls(CALL_futex_wait, 1);
        check_calls(CALL_ppoll, 1);
        send_packet(100);
        receive_packet();
        await_empty_ring();
        CHECK_EQUAL(counted(ROLE_link_reader, COUNTER_in_place), hands_over);
        CHECK_EQUAL(counted(ROLE_tun_writer, COUNTER_packets), 1);
        check_calls(CALL_ppoll, 1);
        close_workers();
        adds_wake_fd = false;
    }
}

int main(void) {
    RUN(an_idle_writer_does_not_wake_until_there_is_a_packet);
    RUN(single_packets_do_not_wake_the_tun_writer);
    RUN(each_does_its_own_work_when_that_is_wanted);
    RUN(a_device_without_room_is_the_tun_writers);
    RUN(none_overtakes_whoever_writes);
    return EXIT_SUCCESS;
}
