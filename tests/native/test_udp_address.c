/* Where a datagram came from and where it came to, through the kernel: each claim sends one through
 * loopback, reads it as the link-reader does, and answers as the link-writer does; the answer must
 * come from the very address that was sent to. */
#define _GNU_SOURCE
#include "host/udp_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include "check.h"

enum { LOOPBACK_INDEX = 1, SOCKET_INDEX = 3 };

/* A server's socket on any address and a free port: `family` AF_INET, or AF_INET6 for both. */
static int open_server(int family, uint16_t *port) {
    struct sockaddr_in6 address = {.sin6_family = (sa_family_t)family};
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof address;
    int off = 0, on = 1, fd = socket(family, SOCK_DGRAM, 0);
    CHECK(fd >= 0);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on), 0);
    if (family == AF_INET6) {
        CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
        CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on), 0);
    }
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin6_port); /* in either family at the same place */
    return fd;
}

/* An address for sockets, from its text; `zone` is for link-local ones. */
static socklen_t parse(const char *text, uint16_t port, uint32_t zone,
                       struct sockaddr_in6 *address) {
    struct sockaddr_in *address4 = (struct sockaddr_in *)(void *)address;
    *address = (struct sockaddr_in6){0};
    if (inet_pton(AF_INET, text, &address4->sin_addr) == 1) {
        address4->sin_family = AF_INET;
        address4->sin_port = htons(port);
        return sizeof *address4;
    }
    CHECK_EQUAL(inet_pton(AF_INET6, text, &address->sin6_addr), 1);
    address->sin6_family = AF_INET6;
    address->sin6_port = htons(port);
    address->sin6_scope_id = zone;
    return sizeof *address;
}

static struct udp_address receive(int fd) {
    struct sockaddr_in6 source;
    _Alignas(struct cmsghdr) uint8_t control[ENVELOPE_CONTROL_SIZE];
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_name = &source,
                             .msg_namelen = sizeof source,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct udp_address endpoint;
    CHECK_EQUAL(recvmsg(fd, &message, 0), 1);
    CHECK_EQUAL(message.msg_flags & MSG_CTRUNC, 0);
    udp_address_read(&endpoint, SOCKET_INDEX, &message);
    return endpoint;
}

static void answer(int fd, int family, const struct udp_address *endpoint) {
    struct sockaddr_in6 address;
    _Alignas(struct cmsghdr) uint8_t control[ENVELOPE_CONTROL_SIZE];
    struct iovec iov = {"!", 1};
    struct msghdr message = {
        .msg_name = &address, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    message.msg_namelen = udp_address_write(endpoint, family, &address);
    CHECK(message.msg_namelen > 0);
    udp_address_write_source(endpoint, family, &message);
    CHECK(message.msg_controllen > 0 && message.msg_controllen <= sizeof control);
    CHECK_EQUAL(sendmsg(fd, &message, 0), 1);
}

/* The client is connected: it hears the answer only from the address that it has sent to. */
static struct udp_address exchange(int family, const char *from, const char *to, uint32_t zone) {
    struct sockaddr_in6 address;
    uint16_t server_port, client_port;
    struct timeval patience = {.tv_sec = 5};
    uint8_t byte;
    int server = open_server(family, &server_port);
    socklen_t length = parse(from, 0, zone, &address);
    int client = socket(address.sin6_family, SOCK_DGRAM, 0);
    CHECK_EQUAL(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQUAL(bind(client, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(getsockname(client, (struct sockaddr *)&address, &length), 0);
    client_port = ntohs(address.sin6_port);
    length = parse(to, server_port, zone, &address);
    CHECK_EQUAL(connect(client, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(send(client, "?", 1, 0), 1);
    struct udp_address endpoint = receive(server);
    CHECK_EQUAL(endpoint.port, client_port);
    CHECK_EQUAL(endpoint.socket_index, SOCKET_INDEX);
    answer(server, family, &endpoint);
    CHECK_EQUAL(recv(client, &byte, 1, 0), 1);
    close(client);
    close(server);
    return endpoint;
}

static void check_exchange(int family, const char *from, const char *to, uint32_t zone) {
    uint8_t address[16] = {0}, local[16] = {0};
    struct udp_address endpoint = exchange(family, from, to, zone);
    bool is_ipv4 = inet_pton(AF_INET, from, address) == 1 && inet_pton(AF_INET, to, local) == 1;
    CHECK(is_ipv4 ||
          (inet_pton(AF_INET6, from, address) == 1 && inet_pton(AF_INET6, to, local) == 1));
    CHECK_EQUAL(endpoint.family, is_ipv4 ? UDP_ADDRESS_IPV4 : UDP_ADDRESS_IPV6);
    CHECK_EQUAL(memcmp(endpoint.address, address, sizeof address), 0);
    CHECK_EQUAL(memcmp(endpoint.local, local, sizeof local), 0);
    CHECK_EQUAL(endpoint.zone, zone);
    CHECK_EQUAL(endpoint.local_zone, LOOPBACK_INDEX);
}

/* -- through the kernel ------------------------------------------------------------------------ */

static void ipv4_is_answered_from_the_address_it_was_sent_to(void) {
    check_exchange(AF_INET, "127.0.0.1", "127.0.0.1", 0);
    check_exchange(AF_INET, "127.0.0.5", "127.0.0.9", 0);
}

static void ipv4_on_a_socket_of_ipv6_is_plain_ipv4(void) {
    check_exchange(AF_INET6, "127.0.0.1", "127.0.0.1", 0);
    check_exchange(AF_INET6, "127.0.0.5", "127.0.0.9", 0);
}

static void ipv6_is_answered_from_the_address_it_was_sent_to(void) {
    check_exchange(AF_INET6, "::1", "::1", 0);
    check_exchange(AF_INET6, "::1", "fd00::9", 0);
    check_exchange(AF_INET6, "fd00::5", "fd00::9", 0);
}

static void a_link_local_address_keeps_its_zone(void) {
    check_exchange(AF_INET6, "fe80::5", "fe80::9", LOOPBACK_INDEX);
}

/* What is sent to all hosts of a network is answered from our own address in it. */
static void check_sent_to_all(int family, const char *from, const char *to, uint32_t zone,
                              const char *ours) {
    struct sockaddr_in6 address;
    uint16_t port;
    uint8_t local[16] = {0};
    int on = 1, server = open_server(family, &port);
    socklen_t length = parse(from, 0, zone, &address);
    int client = socket(address.sin6_family, SOCK_DGRAM, 0);
    CHECK_EQUAL(setsockopt(client, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
    CHECK_EQUAL(bind(client, (struct sockaddr *)&address, length), 0);
    length = parse(to, port, zone, &address);
    CHECK_EQUAL(sendto(client, "?", 1, 0, (struct sockaddr *)&address, length), 1);
    struct udp_address endpoint = receive(server);
    CHECK(*ours == 0 || inet_pton(AF_INET, ours, local) == 1);
    CHECK_EQUAL(memcmp(endpoint.local, local, sizeof local), 0);
    CHECK_EQUAL(endpoint.local_zone, zone);
    close(client);
    close(server);
}

static void a_broadcast_or_multicast_address_is_not_answered_from(void) {
    const int families[] = {AF_INET, AF_INET6};
    uint32_t wire = if_nametoindex("wire");
    for (int i = 0; i < 2; i++) {
        check_sent_to_all(families[i], "10.7.0.1", "10.7.0.255", wire, "10.7.0.1");
        check_sent_to_all(families[i], "10.7.0.1", "255.255.255.255", wire, "10.7.0.1");
    }
    check_sent_to_all(AF_INET6, "fe80::7", "ff02::1", wire, "");
}

/* -- without ----------------------------------------------------------------------------------- */

static void equal_is_equal_in_every_byte(void) {
    struct udp_address a, b;
    memset(&a, 0x11, sizeof a);
    for (size_t i = 0; i < sizeof a; i++) {
        b = a;
        CHECK(udp_address_equal(&a, &b));
        ((uint8_t *)&b)[i] ^= 0x80;
        CHECK(!udp_address_equal(&a, &b));
    }
}

static void what_a_socket_cannot_reach_has_no_address_there(void) {
    struct sockaddr_in6 address;
    struct udp_address unset = {.family = UDP_ADDRESS_UNKNOWN, .port = 9};
    struct udp_address ipv6 = {
        .family = UDP_ADDRESS_IPV6, .port = 9, .zone = 3, .address = {0xfe, 0x80}};
    CHECK_EQUAL(udp_address_write(&unset, AF_INET, &address), 0);
    CHECK_EQUAL(udp_address_write(&unset, AF_INET6, &address), 0);
    CHECK_EQUAL(udp_address_write(&ipv6, AF_INET, &address), 0);
    CHECK_EQUAL(udp_address_write(&ipv6, AF_INET6, &address), sizeof address);
    CHECK_EQUAL(address.sin6_scope_id, 3);
}

static void without_a_local_address_the_kernel_chooses(void) {
    const struct udp_address endpoint = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {127, 0, 0, 1}};
    struct msghdr message = {0};
    udp_address_write_source(&endpoint, AF_INET, &message);
    udp_address_write_source(&endpoint, AF_INET6, &message);
    CHECK_EQUAL(message.msg_controllen, 0);
}

static void a_source_that_is_not_an_ip_address_is_unknown(void) {
    const sa_family_t families[] = {AF_UNSPEC, AF_UNIX, AF_NETLINK};
    struct udp_address endpoint;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        struct sockaddr_in6 source = {.sin6_family = families[i]};
        struct msghdr message = {.msg_name = &source, .msg_namelen = sizeof source};
        udp_address_read(&endpoint, 0, &message);
        CHECK_EQUAL(endpoint.family, UDP_ADDRESS_UNKNOWN);
    }
    struct sockaddr_in6 cut = {.sin6_family = AF_INET6};
    struct msghdr message = {.msg_name = &cut, .msg_namelen = sizeof(struct sockaddr_in)};
    udp_address_read(&endpoint, 0, &message);
    CHECK_EQUAL(endpoint.family, UDP_ADDRESS_UNKNOWN);
    cut.sin6_family = AF_INET;
    message.msg_namelen = sizeof(struct sockaddr_in) - 1;
    udp_address_read(&endpoint, 0, &message);
    CHECK_EQUAL(endpoint.family, UDP_ADDRESS_UNKNOWN);
}

int main(void) {
    RUN(equal_is_equal_in_every_byte);
    RUN(what_a_socket_cannot_reach_has_no_address_there);
    RUN(without_a_local_address_the_kernel_chooses);
    RUN(a_source_that_is_not_an_ip_address_is_unknown);
    if (unshare(CLONE_NEWNET) < 0) {
        printf("  skip  the rest needs a network namespace of its own (root)\n");
        return EXIT_SKIP;
    }
    CHECK_EQUAL(system("ip link set lo up && for address in fd00::5 fd00::9 fe80::5 fe80::9; do "
                       "ip address add $address/64 dev lo nodad; done; "
                       "ip link add wire type veth peer name end && ip link set wire up && "
                       "ip link set end up && ip address add 10.7.0.1/24 brd + dev wire && "
                       "ip address add fe80::7/64 dev wire nodad"),
                0);
    RUN(ipv4_is_answered_from_the_address_it_was_sent_to);
    RUN(ipv4_on_a_socket_of_ipv6_is_plain_ipv4);
    RUN(ipv6_is_answered_from_the_address_it_was_sent_to);
    RUN(a_link_local_address_keeps_its_zone);
    RUN(a_broadcast_or_multicast_address_is_not_answered_from);
    return EXIT_SUCCESS;
}
