/* The tun-reader and the link-writer as they share the work: whoever writes, a stream keeps its
 * framing, each packet is counted once, and a link that the link-writer has let go of is not written.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>

#include "check.h"
#include "formats.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "shared/token.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    RING_BYTES = 1 << 20,
    PATIENCE_MS = 5000,
    MESSAGE = STREAM_LENGTH_PREFIX + 2048,
    PACKET = 100,
    LINK_ID = 7,
};

static struct lane_memory lane;
static struct worker_thread reader, writer;
static int device[2], stream[2], udp[2]; /* [0]: the workers' */
static uint32_t n_given, n_got;

static uint64_t counted(enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(lane.stats, role, counter);
}

static void await_sleep(void) {
    for (int ms = 0; (atomic_load(&lane.ring->shared->consumer.asleep) & TOKEN_OFFERED) == 0;
         ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
}

static void open_lane(bool hands_over) {
    n_given = n_got = 0;
    lane_memory_open(&lane, RING_BYTES);
    lane_memory_add_wake_fd(&lane);
    lane.hands_over = hands_over;
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
}

static void close_lane(void) {
    lane_memory_close(&lane);
    pair_close(device);
    pair_close(stream);
}

static void open_workers(bool hands_over) {
    struct link_format format = plain_format(MODE_TUN, false);
    open_lane(hands_over);
    worker_open(&writer, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &lane, -1);
    worker_open(&reader, ROLE_tun_reader, WIRE_PLAIN, MODE_TUN, &lane, device[0]);
    CHECK_EQUAL(loop_attach_link(writer.loop, 0, LINK_ID, stream[0], &format), 0);
    CHECK_EQUAL(loop_attach_link(reader.loop, 0, LINK_ID, stream[0], &format), 0);
    worker_start(&writer);
    if (hands_over)
        await_sleep();
    worker_start(&reader);
}

static void close_workers(void) {
    worker_stop(&reader);
    worker_stop(&writer);
    worker_close(&reader);
    worker_close(&writer);
    close_lane();
}

/* -- what the device gives, and the peer gets -------------------------------------------------- */

static void make_packet(uint8_t *packet, size_t length) {
    memset(packet, 0, length);
    packet[0] = 0x45;
    be16_write(packet + 2, (uint16_t)length);
    be32_write(packet + 16, 0x0a000002);
    be32_write(packet + IPV4_HEADER_SIZE, n_given++);
}

static void give(size_t length) {
    uint8_t frame[VNET_LENGTH + MESSAGE] = {0};
    make_packet(frame + VNET_LENGTH, length);
    CHECK_EQUAL(write(device[1], frame, VNET_LENGTH + length), VNET_LENGTH + length);
}

static void read_all(uint8_t *bytes, size_t length) {
    struct pollfd end = {.fd = stream[1], .events = POLLIN};
    for (size_t done = 0; done < length;) {
        CHECK_EQUAL(poll(&end, 1, PATIENCE_MS), 1);
        ssize_t n = read(stream[1], bytes + done, length - done);
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
    struct pollfd end = {.fd = stream[1], .events = POLLIN};
    CHECK_EQUAL(poll(&end, 1, 50), 0);
}

static void check_all_counted(void) {
    for (int ms = 0; ring_used_bytes(lane.ring) > 0; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
    CHECK_EQUAL(lane_dropped_in_all(&lane), 0);
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_packets), n_given);
    CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), n_given);
    CHECK_EQUAL(lane_peer_field(&lane, 0, "transmit_packets"), n_given);
}

/* -- streams ----------------------------------------------------------------------------------- */

static void single_packets_do_not_wake_the_link_writer(void) {
    open_workers(true);
    for (int i = 0; i < 50; i++) {
        give(PACKET);
        get();
    }
    check_all_counted();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 50);
    CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_bytes), 50 * PACKET);
    CHECK_EQUAL(stats_read_call(lane.stats, ROLE_tun_reader, CALL_futex_wake), 0);
    close_workers();
}

static void each_does_its_own_work_when_that_is_wanted(void) {
    open_workers(false);
    for (int i = 0; i < 20; i++) {
        give(PACKET);
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
            give(64 + 300 * (round % 6));
        if (round % 8 == 0) { /* the gateway has something to say to both */
            worker_stop(&writer);
            worker_stop(&reader);
            worker_start(&reader);
            worker_start(&writer);
        }
        if (round % 3 == 0)
            usleep(100);
        while (n_got < n_given && round % 20 > 10)
            get();
    }
    while (n_got < n_given)
        get();
    check_all_counted();
    CHECK(counted(ROLE_tun_reader, COUNTER_in_place) > 0);
    close_workers();
}

static void a_link_that_the_link_writer_has_let_go_of_is_not_written(void) {
    open_workers(true);
    give(PACKET);
    get();
    worker_stop(&writer);
    loop_detach_link(writer.loop, 0);
    worker_start(&writer);
    give(PACKET);
    check_nothing_comes();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 1);
    close_workers();
}

/* -- a holder that does a part, or dies: the test plays it ------------------------------------- */

static void open_writer_alone(void) {
    struct link_format format = plain_format(MODE_TUN, false);
    open_lane(true);
    worker_open(&writer, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &lane, -1);
    CHECK_EQUAL(loop_attach_link(writer.loop, 0, LINK_ID, stream[0], &format), 0);
    worker_start(&writer);
    await_sleep();
}

/* Puts a message in the ring, and takes the token. */
static struct ring_record *hold(struct ring *end) {
    struct ring_record *record =
        lane_commit(&lane, (struct ring_record){.length = STREAM_LENGTH_PREFIX + PACKET,
                                                .n_packets = 1,
                                                .n_bytes = PACKET,
                                                .link_id = LINK_ID});
    be16_write(ring_payload(record), PACKET);
    make_packet(ring_payload(record) + STREAM_LENGTH_PREFIX, PACKET);
    CHECK(ring_publish_and_take(lane.ring, RING_BYTES, end, &lane.ring_stats));
    return record;
}

static void what_a_holder_could_not_write_of_a_message_follows(void) {
    struct ring end;
    for (size_t n = 1; n < STREAM_LENGTH_PREFIX + PACKET; n += 7) {
        open_writer_alone();
        struct ring_record *record = hold(&end);
        CHECK_EQUAL(write(stream[0], ring_payload(record), n), n);
        atomic_store(&lane.ring->shared->written_bytes, (uint32_t)n);
        ring_give_back(lane.ring, &end, &lane.ring_stats);
        /* a socket with room reports none, so one more record is not to overtake */
        struct ring_record *next =
            lane_commit(&lane, (struct ring_record){.length = STREAM_LENGTH_PREFIX + PACKET,
                                                    .n_packets = 1,
                                                    .n_bytes = PACKET,
                                                    .link_id = LINK_ID});
        be16_write(ring_payload(next), PACKET);
        make_packet(ring_payload(next) + STREAM_LENGTH_PREFIX, PACKET);
        lane_publish(&lane);
        get();
        get();
        worker_stop(&writer);
        CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), 2);
        CHECK_EQUAL(lane_dropped_in_all(&lane), 0);
        worker_close(&writer);
        close_lane();
    }
}

static void a_holder_killed_in_a_message_ends_its_stream_and_no_other(void) {
    struct ring end;
    open_writer_alone();
    hold(&end);
    atomic_store(&lane.ring->shared->written_stream, 1);
    CHECK_EQUAL(ring_producer_is_dead(lane.ring), 1);
    CHECK_EQUAL(worker_join(&writer), LOOP_DOORBELL); /* the gateway's */
    loop_take_bell(writer.loop);
    CHECK_EQUAL(loop_run(writer.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(writer.loop)->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(writer.loop)->slot, 0);
    CHECK_EQUAL(loop_event(writer.loop)->link_id, LINK_ID);
    check_nothing_comes();
    worker_close(&writer);
    close_lane();
}

static void a_holder_killed_between_messages_costs_nothing(void) {
    for (int is_counted = 0; is_counted < 2; is_counted++) {
        struct ring end;
        open_writer_alone();
        hold(&end);
        if (is_counted)
            stats_count(&lane.stats->blocks[ROLE_link_writer], 1, PACKET);
        CHECK_EQUAL(ring_producer_is_dead(lane.ring), 1);
        CHECK_EQUAL(worker_join(&writer), LOOP_DOORBELL);
        loop_take_bell(writer.loop);
        worker_start(&writer);
        get();
        worker_stop(&writer);
        CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), 1);
        CHECK_EQUAL(lane_dropped_in_all(&lane), 0);
        worker_close(&writer);
        close_lane();
    }
}

/* -- datagrams --------------------------------------------------------------------------------- */

static struct sockaddr_in open_on_loopback(int *fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    *fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK_EQUAL(bind(*fd, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(getsockname(*fd, (struct sockaddr *)&address, &length), 0);
    return address;
}

static void open_datagram_workers(void) {
    struct link_format format = datagram_format(1420);
    const uint8_t ten[4] = {10}, key[32] = {1};
    open_lane(true);
    open_on_loopback(&udp[0]);
    struct sockaddr_in peer = open_on_loopback(&udp[1]);
    struct udp_address endpoint = {
        .family = UDP_ADDRESS_IPV4, .port = ntohs(peer.sin_port), .address = {127, 0, 0, 1}};
    peer_write_endpoint(&lane.peers->slots[0], &endpoint);
    worker_open(&writer, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &lane, -1);
    worker_open(&reader, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &lane, device[0]);
    struct worker_thread *workers[] = {&writer, &reader};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(loop_add_socket(workers[i]->loop, 0, udp[0], true), 0);
        CHECK_EQUAL(loop_attach_link(workers[i]->loop, 0, LINK_ID, -1, &format), 0);
    }
    CHECK_EQUAL(loop_allow_ip(reader.loop, 0, ten, 4, 8), 0);
    CHECK_EQUAL(loop_set_sending_key(reader.loop, 0, AEAD_CHACHA20_POLY1305, key, 1, 0, UINT64_MAX),
                0);
    worker_start(&writer);
    await_sleep();
    worker_start(&reader);
}

static void close_datagram_workers(void) {
    close_workers();
    pair_close(udp);
}

static bool hear(int timeout_ms) {
    uint8_t datagram[2048];
    struct pollfd end = {.fd = udp[1], .events = POLLIN};
    if (poll(&end, 1, timeout_ms) == 0)
        return false;
    CHECK(read(udp[1], datagram, sizeof datagram) >= PACKET);
    CHECK_EQUAL(le32_read(datagram), MESSAGE_DATA_CHACHA);
    CHECK_EQUAL(le32_read(datagram + 8), n_got);
    n_got++;
    return true;
}

static void single_datagrams_do_not_wake_the_link_writer(void) {
    open_datagram_workers();
    for (int i = 0; i < 50; i++) {
        give(PACKET);
        CHECK(hear(PATIENCE_MS));
    }
    check_all_counted();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 50);
    CHECK_EQUAL(stats_read_call(lane.stats, ROLE_tun_reader, CALL_futex_wake), 0);
    close_datagram_workers();
}

static void await_dropped(enum stats_drop reason, uint64_t n) {
    for (int ms = 0; stats_read_drop(lane.stats, reason) < n; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
    lane_check_dropped(&lane, reason, n);
}

static void a_peer_whose_route_leads_into_the_tunnel_is_not_sent_to(void) {
    open_datagram_workers();
    worker_stop(&writer);
    loop_block_link(writer.loop, 0, 1);
    worker_start(&writer);
    await_sleep();
    give(PACKET);
    await_dropped(DROP_link_writer_inside_tunnel, 1);
    CHECK(!hear(20));
    close_datagram_workers();
}

/* What the kernel refuses has its reason, which the link-writer finds; then it is left to it. */
static void what_the_kernel_refuses_the_link_writer_counts(void) {
    struct udp_address nowhere = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {255, 255, 255, 255}};
    open_datagram_workers();
    peer_write_endpoint(&lane.peers->slots[0], &nowhere);
    for (uint64_t n = 1; n <= 5; n++) {
        give(PACKET);
        await_dropped(DROP_link_writer_not_sent, n); /* EACCES: a broadcast */
        await_sleep();
    }
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 0);
    CHECK_EQUAL(stats_read_call(lane.stats, ROLE_tun_reader, CALL_sendmsg), 1);
    close_datagram_workers();
}

int main(void) {
    RUN(single_packets_do_not_wake_the_link_writer);
    RUN(each_does_its_own_work_when_that_is_wanted);
    RUN(a_stream_keeps_its_framing_whoever_writes);
    RUN(a_link_that_the_link_writer_has_let_go_of_is_not_written);
    RUN(what_a_holder_could_not_write_of_a_message_follows);
    RUN(a_holder_killed_in_a_message_ends_its_stream_and_no_other);
    RUN(a_holder_killed_between_messages_costs_nothing);
    RUN(single_datagrams_do_not_wake_the_link_writer);
    RUN(a_peer_whose_route_leads_into_the_tunnel_is_not_sent_to);
    RUN(what_the_kernel_refuses_the_link_writer_counts);
    return EXIT_SUCCESS;
}
