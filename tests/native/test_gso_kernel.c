/* Cutting super-packets, against this machine's kernel: what one device is written whole comes out
 * of another, whose reader takes no super-packets, in the kernel's own segments.
 *
 *     TUN   gso-in 10.9.0.1, fd09::1  -- forwards -->  gso-out 10.10.0.1, fd0a::1
 *     TAP   gso-in                    -- bridge   -->  gso-out
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "check.h"
#include "fastun.h"
#include "own_network.h"
#include "packet/gso.h"
#include "super_packet.h"

enum { N_SHAPES = 400, PATIENCE_MS = 5000 };

static struct super_packet packet;
static struct random noise = {29};
static int into, out_of;

/* -- the network ------------------------------------------------------------------------------- */

static void command(const char *line) {
    CHECK_EQUAL(system(line), 0);
}

static void open_devices(enum mode mode) {
    into = device_open("gso-in", mode);
    out_of = device_open("gso-out", mode);
    CHECK(into >= 0 && out_of >= 0);
    CHECK_EQUAL(device_set_offload(out_of, DEVICE_OFFLOAD_NONE), 0);
    /* all segments of a super-packet have to wait for their reader */
    command("ip link set gso-out txqueuelen 9000");
}

static void open_router(void) {
    open_devices(MODE_TUN);
    command("echo 1 >/proc/sys/net/ipv4/ip_forward");
    command("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    command("ip link set gso-in up && ip link set gso-out up");
    command("ip address add 10.9.0.1/24 dev gso-in && ip address add 10.10.0.1/24 dev gso-out");
    command("ip address add fd09::1/64 dev gso-in nodad");
    command("ip address add fd0a::1/64 dev gso-out nodad");
}

static void open_bridge(void) {
    open_devices(MODE_TAP);
    command("ip link add gso-bridge type bridge");
    command("ip link set gso-in master gso-bridge && ip link set gso-out master gso-bridge");
    command("ip link set gso-in up && ip link set gso-out up && ip link set gso-bridge up");
}

static void close_devices(void) {
    close(into);
    close(out_of);
}

/* What a router does to a packet on its way. */
static void decrement_ttl(void) {
    uint8_t *ip = packet.bytes + packet.ip;
    bool is_ipv4 = ip[0] >> 4 == 4;
    ip[is_ipv4 ? 8 : 7]--;
    if (is_ipv4)
        naive_ip_checksum(ip);
}

/* -- in and out -------------------------------------------------------------------------------- */

static void write_packet(void) {
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    vnet_write(&packet.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, packet.bytes, packet.length);
    CHECK_EQUAL(write(into, bytes, VNET_LENGTH + packet.length), VNET_LENGTH + packet.length);
}

/* The next packet that is ours: the devices give others, too. */
static size_t read_segment(uint8_t *segment) {
    uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    static const uint8_t source6[16] = {0xfd, 9, [15] = 2}, source4[] = {10, 9, 0, 2};
    for (;;) {
        ssize_t n = read(out_of, bytes, sizeof bytes);
        if (n < 0) {
            struct pollfd poll_out = {.fd = out_of, .events = POLLIN};
            CHECK_EQUAL(errno, EAGAIN);
            CHECK_EQUAL(poll(&poll_out, 1, PATIENCE_MS), 1);
            continue;
        }
        const uint8_t *ip = bytes + VNET_LENGTH + packet.ip;
        bool is_ipv4 = ip[0] >> 4 == 4;
        if (n < VNET_LENGTH + (ssize_t)packet.header ||
            memcmp(is_ipv4 ? ip + 12 : ip + 8, is_ipv4 ? source4 : source6, is_ipv4 ? 4 : 16) != 0)
            continue;
        struct vnet vnet = vnet_read(bytes);
        CHECK(vnet_is_plain(&vnet));
        memcpy(segment, bytes + VNET_LENGTH, (size_t)n - VNET_LENGTH);
        return (size_t)n - VNET_LENGTH;
    }
}

static void check_segment(const struct gso_split *split, int i) {
    static uint8_t written[SUPER_PACKET_MAX], expected[SUPER_PACKET_MAX];
    size_t length = gso_segment_length(split, i);
    gso_write_segment(split, i, written);
    CHECK_EQUAL(read_segment(expected), length);
    if (memcmp(written, expected, length) == 0)
        return;
    for (size_t at = 0; at < length; at++)
        if (written[at] != expected[at])
            printf("        segment %d, byte %zu of IP: %#x, the kernel's %#x\n", i, at - packet.ip,
                   written[at], expected[at]);
    CHECK(memcmp(written, expected, length) == 0);
}

/* What is not a super-packet, and only to be completed. */
static void check_completed(struct vnet *vnet) {
    static uint8_t expected[SUPER_PACKET_MAX];
    CHECK(vnet_complete(vnet, packet.bytes, packet.length, packet.l3));
    CHECK_EQUAL(read_segment(expected), packet.length);
    CHECK_EQUAL(memcmp(packet.bytes, expected, packet.length), 0);
}

/* The packet's way through the kernel, and through us. */
static void check_packet(bool is_routed) {
    struct gso_split split;
    struct vnet vnet = packet.vnet;
    write_packet();
    if (is_routed)
        decrement_ttl();
    CHECK(vnet_check(&vnet, packet.bytes, packet.length, packet.l3) > 0);
    if (vnet.gso_type == VNET_GSO_NONE) {
        check_completed(&vnet);
        return;
    }
    int n = gso_split_begin(&split, &vnet, packet.bytes, packet.length);
    CHECK(n >= 1);
    for (int i = 0; i < n; i++)
        check_segment(&split, i);
}

/* -- shapes ------------------------------------------------------------------------------------ */

static struct super_packet_shape random_shape(int version, bool is_udp) {
    struct super_packet_shape shape = {
        .version = version,
        .is_udp = is_udp,
        .ip_options = random_below(&noise, 3) / 2 * 8 * random_below(&noise, 6),
        .tcp_options = 4 * random_below(&noise, 11),
        .tcp_flags = (uint8_t)random_next(&noise),
        .size = 8 + random_below(&noise, random_below(&noise, 2) == 0 ? 100 : 1250),
    };
    size_t n = 2 + random_below(&noise, 40);
    shape.payload = n * shape.size - random_below(&noise, 2) * random_below(&noise, shape.size);
    return shape;
}

static void check_shapes(int version, bool is_udp) {
    for (int i = 0; i < N_SHAPES; i++) {
        struct super_packet_shape shape = random_shape(version, is_udp);
        super_packet_make(&packet, &noise, &shape);
        check_packet(true);
    }
}

static void make(int version, bool is_udp, uint8_t tcp_flags, size_t payload) {
    struct super_packet_shape shape = {.version = version,
                                       .is_udp = is_udp,
                                       .tcp_flags = tcp_flags,
                                       .size = 1000,
                                       .payload = payload};
    super_packet_make(&packet, &noise, &shape);
}

/* Chooses the last word of the first segment so that its checksum computes to 0. */
static void make_checksum_zero(void) {
    static uint8_t segment[SUPER_PACKET_MAX];
    uint8_t *word = packet.bytes + packet.header + 998;
    be16_write(word, 0);
    super_packet_segment(&packet, 0, segment);
    be16_write(word, be16_read(super_packet_checksum(&packet, segment)));
}

/* -- claims ------------------------------------------------------------------------------------ */

static void tcp_over_ipv4_is_cut_as_by_the_kernel(void) {
    check_shapes(4, false);
}

static void tcp_over_ipv6_is_cut_as_by_the_kernel(void) {
    check_shapes(6, false);
}

static void udp_over_ipv4_is_cut_as_by_the_kernel(void) {
    check_shapes(4, true);
}

static void udp_over_ipv6_is_cut_as_by_the_kernel(void) {
    check_shapes(6, true);
}

static void every_flag_goes_where_the_kernel_puts_it(void) {
    for (int version = 4; version <= 6; version += 2)
        for (int flags = 0; flags < 256; flags++) {
            make(version, false, (uint8_t)flags, 3500);
            check_packet(true);
        }
}

/* The offload header's ECN bit announces CWR. */
static void an_ecn_super_packet_is_cut_as_by_the_kernel(void) {
    for (int version = 4; version <= 6; version += 2) {
        make(version, false, SUPER_PACKET_ACK | SUPER_PACKET_CWR, 3500);
        packet.vnet.gso_type |= VNET_GSO_ECN;
        check_packet(true);
    }
}

static void a_packet_is_completed_as_by_the_kernel(void) {
    for (int kind = 0; kind < 4; kind++)
        for (int i = 0; i < N_SHAPES; i++) {
            struct super_packet_shape shape = random_shape(kind % 2 == 0 ? 4 : 6, kind >= 2);
            shape.payload = shape.size;
            super_packet_make(&packet, &noise, &shape);
            packet.vnet.gso_type = VNET_GSO_NONE;
            check_packet(true);
        }
}

static void a_checksum_of_zero_is_sent_as_by_the_kernel(void) {
    for (int kind = 0; kind < 8; kind++) {
        bool is_super = kind >= 4;
        make(kind % 2 == 0 ? 4 : 6, (kind & 2) != 0, SUPER_PACKET_ACK, is_super ? 3500 : 1000);
        make_checksum_zero();
        if (!is_super)
            packet.vnet.gso_type = VNET_GSO_NONE;
        check_packet(true);
    }
}

static void frames_with_vlan_tags_are_cut_as_by_the_kernel(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        struct super_packet_shape shape = random_shape(i % 2 == 0 ? 4 : 6, i % 4 >= 2);
        shape.is_tap = true;
        shape.n_tags = random_below(&noise, 3);
        super_packet_make(&packet, &noise, &shape);
        check_packet(false);
    }
}

int main(void) {
    if (!own_network_enter())
        return EXIT_SKIP;
    open_router();
    RUN(tcp_over_ipv4_is_cut_as_by_the_kernel);
    RUN(tcp_over_ipv6_is_cut_as_by_the_kernel);
    RUN(udp_over_ipv4_is_cut_as_by_the_kernel);
    RUN(udp_over_ipv6_is_cut_as_by_the_kernel);
    RUN(every_flag_goes_where_the_kernel_puts_it);
    RUN(an_ecn_super_packet_is_cut_as_by_the_kernel);
    RUN(a_packet_is_completed_as_by_the_kernel);
    RUN(a_checksum_of_zero_is_sent_as_by_the_kernel);
    close_devices();
    open_bridge();
    RUN(frames_with_vlan_tags_are_cut_as_by_the_kernel);
    close_devices();
    return EXIT_SUCCESS;
}
