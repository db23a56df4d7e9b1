#define _GNU_SOURCE
#include "datagram_peers.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "outbound/link_writer.h"
#include "packet/byteorder.h"
#include "check.h"
#include "outbound/datagram_writer.h"
#include "formats.h"

enum { RING_BYTES = 1 << 20, DATAGRAM_MAX = 65536 };

struct datagram_peers datagram_peers;
static uint8_t bytes[DATAGRAM_MAX];

/* -- life -------------------------------------------------------------------------------------- */

static int open_socket(int family, struct sockaddr_in6 *address) {
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0), discover = IP_PMTUDISC_DO;
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in6){.sin6_family = (sa_family_t)family};
    if (family == AF_INET) {
        ((struct sockaddr_in *)(void *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        length = sizeof(struct sockaddr_in);
    } else {
        address->sin6_addr = in6addr_loopback;
        CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover, sizeof discover), 0);
    }
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover), 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)address, length), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &length), 0);
    return fd;
}

static void open_peer(unsigned slot, int family) {
    struct datagram_peer *peer = &datagram_peers.peers[slot];
    struct link_format format = datagram_format(0);
    struct sockaddr_in6 address;
    int on = 1;
    peer->fd = open_socket(family, &address);
    CHECK_EQUAL(setsockopt(peer->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on), 0);
    peer->endpoint.port = ntohs(address.sin6_port);
    peer->endpoint.family = family == AF_INET ? UDP_ADDRESS_IPV4 : UDP_ADDRESS_IPV6;
    if (family == AF_INET)
        memcpy(peer->endpoint.address, (uint8_t[]){127, 0, 0, 1}, 4);
    else
        peer->endpoint.address[15] = 1;
    peer_write_endpoint(&datagram_peers.lane.peers->by_link_reader[slot], &peer->endpoint);
    CHECK_EQUAL(loop_attach_link(datagram_peers.worker.loop, slot, slot, -1, &format), 0);
}

void datagram_peers_open(int family, bool has_offload) {
    struct datagram_peers *peers = &datagram_peers;
    struct sockaddr_in6 address;
    *peers = (struct datagram_peers){0};
    lane_memory_open(&peers->lane, RING_BYTES);
    worker_open(&peers->worker, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &peers->lane, -1);
    peers->socket = open_socket(family, &address);
    CHECK_EQUAL(loop_add_socket(peers->worker.loop, 0, peers->socket, has_offload), 0);
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        open_peer(slot, family);
}

void datagram_peers_close(void) {
    struct datagram_peers *peers = &datagram_peers;
    worker_close(&peers->worker);
    lane_memory_close(&peers->lane);
    close(peers->socket);
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        close(peers->peers[slot].fd);
}

/* -- records ----------------------------------------------------------------------------------- */

static uint8_t content_byte(unsigned slot, uint32_t number, size_t i) {
    return (uint8_t)(i * 7 + number * 31 + slot * 101);
}

static void fill(uint8_t *datagram, unsigned slot, size_t length) {
    uint32_t number = datagram_peers.peers[slot].n_published++;
    datagram[0] = (uint8_t)slot;
    le32_write(datagram + 1, number);
    for (size_t i = DATAGRAM_MIN; i < length; i++)
        datagram[i] = content_byte(slot, number, i);
}

struct ring_record *datagrams_commit(unsigned slot, unsigned n, size_t size, size_t last) {
    size_t length = (n - 1) * size + last;
    struct ring_record *record =
        lane_commit(&datagram_peers.lane,
                    (struct ring_record){.length = (uint32_t)length,
                                         .n_packets = n,
                                         .n_bytes = (uint32_t)length,
                                         .slot = slot,
                                         .link_id = slot,
                                         .segment = n > 1 ? (uint32_t)size : SEGMENT_WHOLE,
                                         .enqueued_ns = clock_now_ns()});
    for (unsigned i = 0; i < n; i++)
        fill(ring_payload(record) + i * size, slot, i + 1 < n ? size : last);
    return record;
}

void datagram_commit_fragments(unsigned slot, size_t size) {
    datagrams_commit(slot, 1, size, size)->segment = SEGMENT_FRAGMENTS;
}

static enum loop_end run_for_a_while(void) {
    struct datagram_peers *peers = &datagram_peers;
    worker_start(&peers->worker);
    for (int i = 0; i < 100 && ring_used_bytes(peers->lane.ring) > 0; i++)
        usleep(20);
    return worker_stop(&peers->worker);
}

void datagram_peers_run(void) {
    struct datagram_peers *peers = &datagram_peers;
    enum loop_end end;
    lane_publish(&peers->lane);
    do {
        end = run_for_a_while();
        if (end == LOOP_EVENT) {
            CHECK(peers->n_events < sizeof peers->events / sizeof *peers->events);
            peers->events[peers->n_events++] = *loop_event(peers->worker.loop);
        }
    } while (end == LOOP_EVENT || ring_used_bytes(peers->lane.ring) > 0 ||
             link_writer_of(peers->worker.loop)->n_too_long > 0 || peers->worker.loop->n_news > 0);
}

/* -- the peers --------------------------------------------------------------------------------- */

static void check_datagram(unsigned slot, const uint8_t *datagram, size_t length) {
    struct datagram_peer *peer = &datagram_peers.peers[slot];
    CHECK(length >= DATAGRAM_MIN);
    uint32_t number = le32_read(datagram + 1);
    CHECK_EQUAL(datagram[0], slot);
    CHECK(number >= peer->n_received && number < peer->n_published);
    for (size_t i = DATAGRAM_MIN; i < length; i++)
        if (datagram[i] != content_byte(slot, number, i))
            CHECK_EQUAL(datagram[i], content_byte(slot, number, i));
    peer->n_received = number + 1;
}

static size_t segment_of(struct msghdr *message, size_t length) {
    int segment = 0;
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    if (control != NULL && control->cmsg_type == UDP_GRO)
        memcpy(&segment, CMSG_DATA(control), sizeof segment);
    return segment > 0 ? (size_t)segment : length;
}

size_t datagram_peer_receive(unsigned slot, unsigned *n_datagrams) {
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(datagram_peers.peers[slot].fd, &message, 0);
    *n_datagrams = 0;
    if (n <= 0)
        return 0;
    size_t segment = segment_of(&message, (size_t)n), left = (size_t)n;
    for (const uint8_t *at = bytes; left > 0; ++*n_datagrams) {
        size_t length = left < segment ? left : segment;
        check_datagram(slot, at, length);
        at += length;
        left -= length;
    }
    return (size_t)n;
}

unsigned datagram_peer_receive_all(unsigned slot) {
    unsigned n = 0, n_more;
    while (datagram_peer_receive(slot, &n_more) > 0)
        n += n_more;
    return n;
}

/* -- counters ---------------------------------------------------------------------------------- */

uint64_t datagram_peers_dropped(enum stats_drop drop) {
    return stats_read_drop(datagram_peers.lane.stats, drop);
}

void datagram_peers_check_balance(void) {
    const struct lane_memory *lane = &datagram_peers.lane;
    uint64_t n_published = 0, n_sent = 0;
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++) {
        uint64_t n = datagram_peers.peers[slot].n_published;
        uint64_t n_sent_to_it = lane_peer_field(lane, slot, "transmit_packets");
        CHECK_EQUAL(n_sent_to_it + lane_peer_field(lane, slot, "dropped_packets"), n);
        n_published += n;
        n_sent += n_sent_to_it;
    }
    CHECK_EQUAL(n_published, n_sent + lane_dropped_in_all(lane));
    CHECK_EQUAL(stats_read_counter(lane->stats, ROLE_link_writer, COUNTER_packets), n_sent);
}
