/* ICMP answers before this machine's kernel: it takes one from a TUN device, finds it sound, and
 * tells the socket whose packet it quotes, or remembers the MTU. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "check.h"
#include "fastun.h"
#include "own_network.h"
#include "packet/icmp.h"
#include "packet/vnet.h"

enum { TCP = 6, UDP = 17 };

/* The next packet of the version and protocol; the device gives others, too. */
static size_t read_packet(int device, int version, uint8_t protocol, uint8_t *bytes, size_t max) {
    for (;;) {
        ssize_t n = read(device, bytes, max);
        if (n < 0)
            CHECK_EQUAL(errno, EAGAIN); /* the descriptor does not block */
        const uint8_t *ip = bytes + VNET_LENGTH;
        if (n > VNET_LENGTH + 20 && ip[0] >> 4 == version && ip[version == 4 ? 9 : 6] == protocol)
            return (size_t)n - VNET_LENGTH;
    }
}

/* Reads what the socket sent and gives the device the answer to it: too big for that MTU, or
 * unreachable with 0. */
static void answer_next(int device, int version, uint8_t protocol, size_t mtu) {
    uint8_t bytes[VNET_LENGTH + 3000], answer[VNET_LENGTH + ICMP_ANSWER_MAX] = {0};
    size_t length = read_packet(device, version, protocol, bytes, sizeof bytes);
    const uint8_t *packet = bytes + VNET_LENGTH;
    size_t answered =
        mtu == 0 ? icmp_unreachable(packet, length, answer + VNET_LENGTH, ICMP_ANSWER_MAX)
                 : icmp_too_big(packet, length, mtu, answer + VNET_LENGTH, ICMP_ANSWER_MAX);
    CHECK(answered != 0);
    CHECK_EQUAL(write(device, answer, VNET_LENGTH + answered), VNET_LENGTH + answered);
}

static int udp_error(int device, int version, const struct sockaddr *to, socklen_t to_length) {
    uint8_t text[1400] = {1};
    struct timeval patience = {.tv_sec = 5};
    int on = 1, udp = socket(to->sa_family, SOCK_DGRAM, 0);
    CHECK_EQUAL(setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQUAL(version == 4 ? setsockopt(udp, IPPROTO_IP, IP_RECVERR, &on, sizeof on)
                             : setsockopt(udp, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on),
                0);
    /* a new IPv6 address cannot be sent from until its last checks have ended */
    for (int i = 0; sendto(udp, text, sizeof text, 0, to, to_length) != sizeof text; i++) {
        CHECK(i < 100);
        usleep(50 * 1000);
    }
    answer_next(device, version, UDP, 0);
    CHECK_EQUAL(recv(udp, text, sizeof text, 0), -1);
    int error = errno;
    close(udp);
    return error;
}

static int tcp_error(int device, int version, const struct sockaddr *to, socklen_t to_length) {
    int error = 0, tcp = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof error;
    CHECK(connect(tcp, to, to_length) < 0 && errno == EINPROGRESS);
    answer_next(device, version, TCP, 0);
    struct pollfd poll_tcp = {.fd = tcp, .events = POLLOUT};
    CHECK_EQUAL(poll(&poll_tcp, 1, 500), 1); /* at once: the second SYN goes out after 1 s */
    CHECK_EQUAL(getsockopt(tcp, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    close(tcp);
    return error;
}

static void the_kernel_tells_the_senders_socket_that_the_host_is_unreachable(void) {
    int device = own_network_tun("icmp0");
    struct sockaddr_in to4 = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x0a090002)};
    struct sockaddr_in6 to6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr.s6_addr = {0xfd, 9, [15] = 2}};
    CHECK_EQUAL(udp_error(device, 4, (struct sockaddr *)&to4, sizeof to4), EHOSTUNREACH);
    CHECK_EQUAL(tcp_error(device, 4, (struct sockaddr *)&to4, sizeof to4), EHOSTUNREACH);
    CHECK_EQUAL(udp_error(device, 6, (struct sockaddr *)&to6, sizeof to6), EHOSTUNREACH);
    CHECK_EQUAL(tcp_error(device, 6, (struct sockaddr *)&to6, sizeof to6), EHOSTUNREACH);
    close(device);
}

/* The MTU that the kernel knows for the socket's path after the answer. */
static int learned_mtu(int device, int version, const struct sockaddr *to, socklen_t to_length,
                       size_t mtu) {
    uint8_t text[1400] = {1};
    struct timeval patience = {.tv_sec = 5};
    int learned = 0, level = version == 4 ? IPPROTO_IP : IPPROTO_IPV6;
    socklen_t size = sizeof learned;
    int discover = version == 4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
    int udp = socket(to->sa_family, SOCK_DGRAM, 0);
    CHECK_EQUAL(setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQUAL(setsockopt(udp, level, version == 4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                           &discover, sizeof discover),
                0);
    CHECK_EQUAL(connect(udp, to, to_length), 0);
    CHECK_EQUAL(send(udp, text, sizeof text, 0), sizeof text);
    answer_next(device, version, UDP, mtu);
    CHECK_EQUAL(recv(udp, text, sizeof text, 0), -1);
    CHECK_EQUAL(errno, EMSGSIZE);
    CHECK_EQUAL(getsockopt(udp, level, version == 4 ? IP_MTU : IPV6_MTU, &learned, &size), 0);
    close(udp);
    return learned;
}

static void the_kernel_learns_the_mtu_of_the_path(void) {
    int device = own_network_tun("icmp1");
    struct sockaddr_in to4 = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x0a090003)};
    struct sockaddr_in6 to6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr.s6_addr = {0xfd, 9, [15] = 3}};
    CHECK_EQUAL(learned_mtu(device, 4, (struct sockaddr *)&to4, sizeof to4, 1321), 1321);
    sleep(2); /* until the IPv6 address can be sent from */
    CHECK_EQUAL(learned_mtu(device, 6, (struct sockaddr *)&to6, sizeof to6, 1322), 1322);
    close(device);
}

int main(void) {
    if (!own_network_enter())
        return EXIT_SKIP;
    RUN(the_kernel_tells_the_senders_socket_that_the_host_is_unreachable);
    RUN(the_kernel_learns_the_mtu_of_the_path);
    return EXIT_SUCCESS;
}
