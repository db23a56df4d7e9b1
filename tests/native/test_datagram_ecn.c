/* ECN on UDP: which codepoint the outer header gets, in trains too; and what the outer one does to
 * the packet that comes out at the other end. The combinations themselves: test_ecn.c. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "datagram_link.h"
#include "host/udp_address.h"
#include "packet/ecn.h"

enum { N_CODEPOINTS = 4, CLASSES = 256 };

/* -- control messages -------------------------------------------------------------------------- */

static int open_receiver(uint16_t *port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    socklen_t length = sizeof address;
    int off = 0, on = 1, fd = socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on), 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin6_port);
    return fd;
}

static void send_with(int fd, int family, const struct udp_address *to, uint8_t class) {
    struct envelope envelope;
    uint16_t segment = 2;
    struct iovec iov = {"train", 5};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    udp_address_envelope(to, family, &envelope, &message);
    udp_address_write_class(to, class, &message);
    control_append(&message, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    CHECK(message.msg_controllen <= sizeof envelope.control);
    CHECK_EQUAL(sendmsg(fd, &message, 0), 5);
}

/* As link-reader: a train, with all control messages that there are. */
static uint8_t receive_class(int fd) {
    struct envelope envelope;
    uint8_t bytes[8];
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = envelope.control,
                             .msg_controllen = sizeof envelope.control};
    CHECK_EQUAL(recvmsg(fd, &message, 0), 5);
    CHECK_EQUAL(message.msg_flags & MSG_CTRUNC, 0);
    return udp_address_read_class(&message);
}

static void a_class_arrives_in_both_families_from_sockets_of_either(void) {
    struct udp_address ipv4 = {.family = UDP_ADDRESS_IPV4, .address = {127, 0, 0, 1}};
    struct udp_address ipv6 = {.family = UDP_ADDRESS_IPV6, .address = {[15] = 1}};
    memcpy(ipv4.local, ipv4.address, sizeof ipv4.local);
    memcpy(ipv6.local, ipv6.address, sizeof ipv6.local);
    int to = open_receiver(&ipv4.port), plain = socket(AF_INET, SOCK_DGRAM, 0);
    int dual = socket(AF_INET6, SOCK_DGRAM, 0);
    ipv6.port = ipv4.port;
    for (unsigned class = 0; class < CLASSES; class ++) {
        send_with(plain, AF_INET, &ipv4, (uint8_t) class);
        CHECK_EQUAL(receive_class(to), class);
        send_with(dual, AF_INET6, &ipv4, (uint8_t) class); /* a mapped address */
        CHECK_EQUAL(receive_class(to), class);
        send_with(dual, AF_INET6, &ipv6, (uint8_t) class);
        CHECK_EQUAL(receive_class(to), class);
    }
    close(to);
    close(plain);
    close(dual);
}

/* -- inbound ----------------------------------------------------------------------------------- */

static void send_inner(uint64_t counter, unsigned inner) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, PEER_ADDRESS, OUR_ADDRESS);
    packet[IPV4_TOS_OFFSET] = (uint8_t)inner;
    sealed_make(&sealed, reader.aead, KEY, INDEX, counter, packet, PACKET);
    datagram_send_sealed(0);
}

static uint64_t n_marked(void) {
    return stats_read_counter(reader.lane.stats, ROLE_link_reader, COUNTER_ecn_marked);
}

/* Of the record that comes next. */
static unsigned next_codepoint(uint64_t *cursor) {
    bool corrupt = false;
    const struct ring_view *record = ring_peek(reader.lane.ring, cursor, &corrupt);
    CHECK(record != NULL);
    return record->payload[VNET_LENGTH + IPV4_TOS_OFFSET];
}

static void what_the_path_marked_is_marked_inside_or_dropped_with_its_reason(void) {
    const unsigned inners[] = {ECN_ECT_0, ECN_NOT_ECT, ECN_ECT_1, ECN_CE};
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    for (unsigned outer = 0; outer < N_CODEPOINTS; outer++) {
        datagrams_set_class(0, (int)outer);
        for (unsigned i = 0; i < N_CODEPOINTS; i++)
            send_inner(outer * N_CODEPOINTS + i, inners[i]);
    }
    datagrams_set_class(0, 0);
    datagrams_run();
    check_counted(N_CODEPOINTS * N_CODEPOINTS - 1, DROP_link_reader_not_ecn_capable, 1);
    CHECK_EQUAL(n_marked(), 3);
    const unsigned expected[] = {2,
                                 0,
                                 1,
                                 3,
                                 /* ECT(1) */ 1,
                                 0,
                                 1,
                                 3,
                                 /* ECT(0) */ 2,
                                 0,
                                 1,
                                 3,
                                 /* CE */ 3,
                                 3,
                                 3};
    uint64_t cursor = ring_first(reader.lane.ring);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        CHECK_EQUAL(next_codepoint(&cursor), expected[i]);
    datagrams_close();
}

/* The outer header may be forged: a mark counts only on an authentic message. */
static void what_does_not_open_marks_nothing(void) {
    datagrams_open(AEAD_AES_256_GCM, true);
    datagrams_set_class(0, ECN_CE);
    make_packet(KEY, INDEX, 0);
    sealed.bytes[sealed.length - 1] ^= 1;
    datagram_send_sealed(0);
    datagrams_set_class(0, 0);
    datagrams_run();
    check_counted(0, DROP_link_reader_bad_tag, 1);
    CHECK_EQUAL(n_marked(), 0);
    datagrams_close();
}

int main(void) {
    RUN(a_class_arrives_in_both_families_from_sockets_of_either);
    RUN(what_the_path_marked_is_marked_inside_or_dropped_with_its_reason);
    RUN(what_does_not_open_marks_nothing);
    return EXIT_SUCCESS;
}
