/* What this machine's kernel makes of super-packets that the tun-writer put together:
 *
 *   [ring] --> tun-writer --> TUN device 10.9.0.1, fd09::1 --> UDP and TCP sockets
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "flow_writer.h"
#include "own_network.h"
#include "splitter.h"

/* -- device, sockets, counters ----------------------------------------------------------------- */

/* A socket at our address and port. */
static int open_socket(int version, int type) {
    struct sockaddr_in to4 = {.sin_family = AF_INET,
                              .sin_port = htons(FLOW_OUR_PORT),
                              .sin_addr.s_addr = htonl(0x0a090001)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6,
                               .sin6_port = htons(FLOW_OUR_PORT),
                               .sin6_addr.s6_addr = {0xfd, 9, [15] = 1}};
    bool is_ipv4 = version == 4;
    const void *to = is_ipv4 ? (const void *)&to4 : (const void *)&to6;
    int fd = socket(is_ipv4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK, 0);
    /* a new IPv6 address cannot be bound to until its last checks have ended */
    for (int i = 0; bind(fd, to, is_ipv4 ? sizeof to4 : sizeof to6) < 0; i++) {
        CHECK(i < 100);
        usleep(50 * 1000);
    }
    return fd;
}

/* Of /proc/net/snmp: a line of names and a line of values, each beginning with the group. */
static long kernel_counter(const char *group, const char *name) {
    char names[2048], values[2048], *rest_of_names, *rest_of_values;
    FILE *file = fopen("/proc/net/snmp", "r");
    CHECK(file != NULL);
    while (fgets(names, sizeof names, file) != NULL && fgets(values, sizeof values, file) != NULL) {
        char *at = strtok_r(names, " \n", &rest_of_names);
        char *value = strtok_r(values, " \n", &rest_of_values);
        if (strncmp(at, group, strlen(group)) != 0)
            continue;
        while (at != NULL && strcmp(at, name) != 0) {
            at = strtok_r(NULL, " \n", &rest_of_names);
            value = strtok_r(NULL, " \n", &rest_of_values);
        }
        fclose(file);
        CHECK(value != NULL);
        return atol(value);
    }
    check_failed(__FILE__, __LINE__, group, 0, 0);
}

static long kernel_counter6(const char *name) {
    char read_name[100];
    long value;
    FILE *file = fopen("/proc/net/snmp6", "r");
    CHECK(file != NULL);
    while (fscanf(file, "%99s %ld", read_name, &value) == 2)
        if (strcmp(read_name, name) == 0) {
            fclose(file);
            return value;
        }
    check_failed(__FILE__, __LINE__, name, 0, 0);
}

static long udp_checksum_errors(int version) {
    return version == 4 ? kernel_counter("Udp:", "InCsumErrors")
                        : kernel_counter6("Udp6InCsumErrors");
}

/* Every datagram but `bad`, by itself and in order. */
static void expect_datagrams(int udp, int n, int bad) {
    uint8_t bytes[2 * FLOW_PAYLOAD], expected[FLOW_PAYLOAD];
    for (int i = 0; i < n; i++) {
        if (i == bad)
            continue;
        CHECK_EQUAL(recv(udp, bytes, sizeof bytes, 0), FLOW_PAYLOAD);
        CHECK_EQUAL(memcmp(bytes, memset(expected, i, FLOW_PAYLOAD), FLOW_PAYLOAD), 0);
    }
    CHECK(recv(udp, bytes, sizeof bytes, 0) < 0 && errno == EAGAIN);
}

static void check_udp(int version, int bad) {
    struct writer writer;
    struct flow flow = {version, SPLIT_UDP, 0, 0, 0};
    int device = own_network_tun("coalesce0"), udp = open_socket(version, SOCK_DGRAM);
    long n_errors = udp_checksum_errors(version);
    writer_open(&writer, MODE_TUN, device);
    writer_put_flow(&writer, &flow, 0, 40, bad);
    writer_run(&writer);
    CHECK_EQUAL(writer_calls(&writer, CALL_writev), bad < 0 ? 1 : 2);
    CHECK_EQUAL(writer_calls(&writer, CALL_write), bad < 0 ? 0 : 1);
    CHECK_EQUAL(writer_counter(&writer, COUNTER_packets), 40);
    expect_datagrams(udp, 40, bad);
    CHECK_EQUAL(udp_checksum_errors(version), n_errors + (bad >= 0));
    writer_close(&writer);
    close(udp);
    close(device);
}

static void a_udp_socket_gets_each_datagram_of_a_super_packet(void) {
    check_udp(4, -1);
    check_udp(6, -1);
}

static void the_kernel_drops_and_counts_the_one_datagram_that_is_wrong(void) {
    check_udp(4, 17);
    check_udp(6, 17);
}

/* The kernel's next packet of the flow. */
static const uint8_t *read_answer(int device, const struct flow *flow) {
    static uint8_t frame[VNET_LENGTH + 65536];
    struct pollfd readable = {.fd = device, .events = POLLIN};
    for (;;) {
        CHECK_EQUAL(poll(&readable, 1, 5000), 1);
        CHECK(read(device, frame, sizeof frame) > VNET_LENGTH);
        const uint8_t *ip = frame + VNET_LENGTH;
        if (ip[0] >> 4 == flow->version && split_protocol(ip) == flow->protocol)
            return ip + split_transport(ip);
    }
}

/* As the other end of the connection. */
static void shake_hands(struct writer *writer, int device, struct flow *flow) {
    uint8_t packet[FLOW_PACKET_MAX];
    writer_put(writer, packet, flow_packet(flow, FLOW_SYN, 0, 0, packet));
    writer_run(writer);
    const uint8_t *answer = read_answer(device, flow);
    CHECK_EQUAL(answer[13], FLOW_SYN | FLOW_ACK);
    flow->acknowledgement = split_u16(answer + 4) * 65536u + split_u16(answer + 6) + 1;
    writer_put(writer, packet, flow_packet(flow, FLOW_ACK, 0, 0, packet));
    writer_run(writer);
}

static void expect_stream(int tcp, int from, int to) {
    uint8_t bytes[FLOW_PAYLOAD], expected[FLOW_PAYLOAD];
    for (int i = from; i < to; i++) {
        CHECK_EQUAL(recv(tcp, bytes, FLOW_PAYLOAD, 0), FLOW_PAYLOAD);
        CHECK_EQUAL(memcmp(bytes, memset(expected, i, FLOW_PAYLOAD), FLOW_PAYLOAD), 0);
    }
    CHECK(recv(tcp, bytes, FLOW_PAYLOAD, 0) < 0 && errno == EAGAIN);
}

/* 20 segments with a wrong one among them, then that one again. */
static void check_tcp(int version) {
    struct writer writer;
    struct flow flow = {version, SPLIT_TCP, 0, 1000, 0};
    int device = own_network_tun("coalesce0"), listening = open_socket(version, SOCK_STREAM);
    long n_errors = kernel_counter("Tcp:", "InCsumErrors");
    CHECK_EQUAL(listen(listening, 1), 0);
    writer_open(&writer, MODE_TUN, device);
    shake_hands(&writer, device, &flow);
    int tcp = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    CHECK(tcp >= 0);
    uint32_t begin = flow.sequence;
    writer_put_flow(&writer, &flow, 0, 20, 12);
    writer_run(&writer);
    CHECK_EQUAL(writer_calls(&writer, CALL_writev), 2);
    CHECK_EQUAL(writer_calls(&writer, CALL_write), 2 + 1); /* SYN and ACK came singly as well */
    expect_stream(tcp, 0, 12);
    CHECK_EQUAL(kernel_counter("Tcp:", "InCsumErrors"), n_errors + 1);
    flow.sequence = begin + 12 * FLOW_PAYLOAD;
    writer_put_flow(&writer, &flow, 12, 1, -1);
    writer_run(&writer);
    expect_stream(tcp, 12, 20);
    CHECK_EQUAL(kernel_counter("Tcp:", "InCsumErrors"), n_errors + 1);
    writer_close(&writer);
    close(tcp);
    close(listening);
    close(device);
}

static void a_tcp_socket_gets_the_stream_of_super_packets_without_the_wrong_segment(void) {
    check_tcp(4);
    check_tcp(6);
}

static void a_super_packet_for_a_device_that_is_down_is_dropped_and_counted_in_packets(void) {
    struct writer writer;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    int device = device_open("coalesce1", MODE_TUN);
    CHECK(device >= 0);
    writer_open(&writer, MODE_TUN, device);
    writer_put_flow(&writer, &flow, 0, 30, -1);
    writer_run(&writer);
    CHECK_EQUAL(writer_calls(&writer, CALL_writev), 1);
    CHECK_EQUAL(writer_counter(&writer, COUNTER_packets), 0);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_tun_writer_device_down), 30);
    writer_close(&writer);
    close(device);
}

int main(void) {
    if (!own_network_enter())
        return EXIT_SKIP;
    RUN(a_udp_socket_gets_each_datagram_of_a_super_packet);
    RUN(the_kernel_drops_and_counts_the_one_datagram_that_is_wrong);
    RUN(a_tcp_socket_gets_the_stream_of_super_packets_without_the_wrong_segment);
    RUN(a_super_packet_for_a_device_that_is_down_is_dropped_and_counted_in_packets);
    return EXIT_SUCCESS;
}
