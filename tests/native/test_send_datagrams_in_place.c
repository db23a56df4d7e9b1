/* The tun-reader sends single datagrams of a link-writer that sleeps, and leaves to it what is not as
 * usual: a refusal, a blocked peer, a queue in the kernel. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>

#include "check.h"
#include "worker/key_commands.h"
#include "formats.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "sockets.h"
#include "two_workers.h"

enum { PACKET = 100 };

static int udp[2]; /* [0]: the workers' */
static uint32_t n_got;

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
    n_got = 0;
    open_on_loopback(&udp[0]);
    struct sockaddr_in peer = open_on_loopback(&udp[1]);
    struct udp_address endpoint = {
        .family = UDP_ADDRESS_IPV4, .port = ntohs(peer.sin_port), .address = {127, 0, 0, 1}};
    peer_write_endpoint(&two_lane.peers->by_link_reader[0], &endpoint);
    worker_open(&two_writer, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &two_lane, -1);
    worker_open(&two_reader, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &two_lane, two_device[0]);
    struct worker_thread *workers[] = {&two_writer, &two_reader};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(loop_add_socket(workers[i]->loop, 0, udp[0], true), 0);
        CHECK_EQUAL(loop_attach_link(workers[i]->loop, 0, LINK_ID, -1, &format), 0);
    }
    CHECK_EQUAL(loop_allow_ip(two_reader.loop, 0, ten, 4, 8), 0);
    CHECK_EQUAL(key_use_for_sending(two_reader.loop, 0, AEAD_CHACHA20_POLY1305, key, 1,
                                    &(struct counter_source){0}, UINT64_MAX),
                0);
    worker_start(&two_writer);
    await_sleep();
    worker_start(&two_reader);
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
        two_give(PACKET);
        CHECK(hear(PATIENCE_MS));
    }
    check_all_counted();
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 50);
    CHECK_EQUAL(stats_read_call(two_lane.stats, ROLE_tun_reader, CALL_futex_wake), 0);
    close_datagram_workers();
}

static void await_dropped(enum stats_drop reason, uint64_t n) {
    for (int ms = 0; stats_read_drop(two_lane.stats, reason) < n; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
    lane_check_dropped(&two_lane, reason, n);
}

static void a_peer_whose_route_leads_into_the_tunnel_is_not_sent_to(void) {
    open_datagram_workers();
    worker_stop(&two_writer);
    loop_block_link(two_writer.loop, 0, 1);
    worker_start(&two_writer);
    await_sleep();
    two_give(PACKET);
    await_dropped(DROP_link_writer_inside_tunnel, 1);
    CHECK(!hear(20));
    close_datagram_workers();
}

/* What the kernel refuses has its reason, which the link-writer finds; then it is left to it. */
static void what_the_kernel_refuses_the_link_writer_counts(void) {
    struct udp_address nowhere = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {255, 255, 255, 255}};
    open_datagram_workers();
    peer_write_endpoint(&two_lane.peers->by_link_reader[0], &nowhere);
    for (uint64_t n = 1; n <= 5; n++) {
        two_give(PACKET);
        await_dropped(DROP_link_writer_not_sent, n); /* EACCES: a broadcast */
        if (n == 1) {                                /* which is said once */
            CHECK_EQUAL(worker_join(&two_writer), LOOP_EVENT);
            CHECK_EQUAL(loop_event(two_writer.loop)->kind, EVENT_REFUSAL);
            CHECK_EQUAL(loop_event(two_writer.loop)->index, REFUSED_DATAGRAMS);
            worker_start(&two_writer);
        }
        await_sleep();
    }
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_in_place), 0);
    CHECK_EQUAL(stats_read_call(two_lane.stats, ROLE_tun_reader, CALL_sendmsg), 1);
    close_datagram_workers();
}

/* -- several peers ----------------------------------------------------------------------------- */

/* Two streams, of which the first is not read; all packets are for that peer. Returns how many were
 * sent in place. */
static uint64_t send_unread(unsigned n_links, uint32_t n_packets) {
    struct link_format format = sealed_format(MODE_TUN, false);
    const uint8_t ten[4] = {10}, key[32] = {1};
    int other[2];
    open_lane(true);
    set_send_buffer(two_stream[0], 1 << 20);
    pair_open(other, SOCK_STREAM | SOCK_NONBLOCK);
    worker_open(&two_writer, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &two_lane, -1);
    worker_open(&two_reader, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &two_lane, two_device[0]);
    struct worker_thread *workers[] = {&two_writer, &two_reader};
    for (unsigned i = 0; i < 2 * n_links; i++)
        CHECK_EQUAL(loop_attach_link(workers[i % 2]->loop, i / 2, LINK_ID,
                                     i / 2 == 0 ? two_stream[0] : other[0], &format),
                    0);
    CHECK_EQUAL(loop_allow_ip(two_reader.loop, 0, ten, 4, 8), 0);
    CHECK_EQUAL(key_use_for_sending(two_reader.loop, 0, AEAD_CHACHA20_POLY1305, key, 1,
                                    &(struct counter_source){0}, UINT64_MAX),
                0);
    worker_start(&two_writer);
    worker_start(&two_reader);
    for (uint32_t i = 0; i < n_packets; i++) {
        await_sleep();
        two_give(1000);
        for (int ms = 0; counted(ROLE_link_writer, COUNTER_packets) <= i; ms++) {
            CHECK(ms < PATIENCE_MS);
            usleep(1000);
        }
    }
    check_all_counted();
    uint64_t n_in_place = counted(ROLE_tun_reader, COUNTER_in_place);
    close_workers();
    pair_close(other);
    return n_in_place;
}

/* Else nothing would see that an uplink is full, and make the peers take turns. */
static void what_waits_in_the_kernel_is_the_link_writers_where_there_are_several_peers(void) {
    CHECK_EQUAL(send_unread(1, 30), 30);
    uint64_t n_in_place = send_unread(2, 30);
    CHECK(n_in_place > 0);
    CHECK(n_in_place < 15);
}

int main(void) {
    RUN(single_datagrams_do_not_wake_the_link_writer);
    RUN(a_peer_whose_route_leads_into_the_tunnel_is_not_sent_to);
    RUN(what_the_kernel_refuses_the_link_writer_counts);
    RUN(what_waits_in_the_kernel_is_the_link_writers_where_there_are_several_peers);
    return EXIT_SUCCESS;
}
