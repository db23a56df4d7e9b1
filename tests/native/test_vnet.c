/* vnet_check at each of its bounds: what the kernel makes passes, one step beyond does not. The
 * property tests compare it with a model; this names every bound, and ASan sees a byte read too
 * far, since each frame stands in memory of exactly its size. */
#include "vnet.h"

#include "check.h"

enum { IPV4 = 20, IPV6 = 40, TCP = 20, UDP = 8, ETHERNET = 14, REFUSED = -1 };

static uint8_t frame[2048];

/* An IP header of the version, its own length in it, and a TCP data offset of 5 words behind. */
static struct vnet begin(unsigned version, size_t l3, uint8_t gso_type) {
    size_t l4 = l3 + (version == 4 ? IPV4 : IPV6);
    memset(frame, 0, sizeof frame);
    frame[l3] = (uint8_t)(version << 4 | 5);
    frame[l4 + 12] = 5 << 4;
    return (struct vnet){
        .flags = VNET_NEEDS_CSUM,
        .gso_type = gso_type,
        .hdr_len = 1,
        .gso_size = gso_type == VNET_GSO_NONE ? 0 : 100,
        .csum_start = (uint16_t)l4,
        .csum_offset = gso_type == VNET_GSO_UDP_L4 ? 6 : 16,
    };
}

static struct vnet checked; /* as vnet_check left it */

static int check_at(struct vnet vnet, size_t length, size_t l3) {
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL);
    memcpy(exact, frame, length);
    int n_packets = vnet_check(&vnet, exact, length, l3);
    free(exact);
    checked = vnet;
    return n_packets;
}

static int check(struct vnet vnet, size_t length) {
    return check_at(vnet, length, 0);
}

static void only_the_flag_of_a_checksum_to_complete_is_known(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_NONE);
    CHECK_EQUAL(check(vnet, 100), 1);
    for (unsigned bit = 1; bit < 8; bit++) {
        vnet.flags = (uint8_t)(VNET_NEEDS_CSUM | 1u << bit);
        CHECK_EQUAL(check(vnet, 100), REFUSED);
    }
    vnet.flags = VNET_DATA_VALID;
    CHECK_EQUAL(check(vnet, 100), REFUSED);
}

static void a_checksum_lies_inside_the_frame(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_NONE);
    CHECK_EQUAL(check(vnet, IPV4 + 16 + 2), 1);
    CHECK_EQUAL(check(vnet, IPV4 + 16 + 1), REFUSED);
    vnet.csum_start = 0xfff0; /* with the offset it would wrap in 16 bits */
    vnet.csum_offset = 0x0040;
    CHECK_EQUAL(check(vnet, 1000), REFUSED);
    vnet.flags = 0; /* then nobody follows the two */
    CHECK_EQUAL(check(vnet, 1000), 1);
}

static void a_checksum_begins_behind_the_ip_header(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_NONE);
    vnet.csum_start = IPV4 - 1;
    CHECK_EQUAL(check(vnet, 100), REFUSED);
    vnet = begin(6, 0, VNET_GSO_NONE);
    CHECK_EQUAL(check(vnet, 100), 1);
    vnet.csum_start = IPV6 - 1;
    CHECK_EQUAL(check(vnet, 100), REFUSED);
}

static void on_ethernet_it_begins_behind_both_headers(void) {
    struct vnet vnet = begin(4, ETHERNET, VNET_GSO_TCPV4);
    CHECK_EQUAL(check_at(vnet, ETHERNET + IPV4 + TCP + 100, ETHERNET), 1);
    vnet.csum_start = ETHERNET + IPV4 - 1;
    frame[vnet.csum_start + 12] = 5 << 4;
    CHECK_EQUAL(check_at(vnet, 200, ETHERNET), REFUSED);
    vnet = begin(6, ETHERNET, VNET_GSO_TCPV6);
    CHECK_EQUAL(check_at(vnet, ETHERNET + IPV6 + TCP + 100, ETHERNET), 1);
    vnet.csum_start = ETHERNET + IPV6 - 1;
    frame[vnet.csum_start + 12] = 5 << 4;
    CHECK_EQUAL(check_at(vnet, 200, ETHERNET), REFUSED);
    vnet.gso_type = VNET_GSO_TCPV6 | VNET_GSO_ECN;
    CHECK_EQUAL(check_at(vnet, 200, ETHERNET), REFUSED);
}

static void what_is_no_super_packet_has_neither_size_nor_header_length(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_NONE);
    vnet.gso_size = 7;
    CHECK_EQUAL(check(vnet, 100), 1);
    CHECK_EQUAL(checked.gso_size, 0);
    CHECK_EQUAL(checked.hdr_len, 0);
}

static void a_super_packet_has_a_checksum_to_complete(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_TCPV4);
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), 1);
    vnet.flags = 0;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
}

static void the_kind_of_a_super_packet_is_known_and_ecn_goes_with_tcp_alone(void) {
    for (unsigned kind = 0; kind < 256; kind++) {
        bool is_tcp4 = (kind & 0x7f) == VNET_GSO_TCPV4, is_tcp6 = (kind & 0x7f) == VNET_GSO_TCPV6;
        struct vnet vnet = begin(is_tcp6 ? 6 : 4, 0, (uint8_t)kind);
        bool is_known = is_tcp4 || is_tcp6 || kind == VNET_GSO_NONE || kind == VNET_GSO_UDP_L4;
        CHECK_EQUAL(check(vnet, IPV6 + TCP + 50), is_known ? 1 : REFUSED);
    }
}

static void tcp_stands_in_the_ip_version_that_its_kind_names(void) {
    struct vnet vnet = begin(6, 0, VNET_GSO_TCPV4);
    frame[0] = 0x6a; /* 40 bytes, read as IPv4's length */
    CHECK_EQUAL(check(vnet, IPV6 + TCP + 100), REFUSED);
    vnet = begin(4, 0, VNET_GSO_TCPV6);
    vnet.csum_start = IPV6;
    frame[IPV6 + 12] = 5 << 4;
    CHECK_EQUAL(check(vnet, IPV6 + TCP + 100), REFUSED);
}

static void tcp_begins_where_the_ip_header_ends(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_TCPV4);
    frame[0] = 0x46; /* an option of 4 bytes, and TCP in its place */
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
    vnet.csum_start = IPV4 + 4;
    frame[vnet.csum_start + 12] = 5 << 4;
    CHECK_EQUAL(check(vnet, IPV4 + 4 + TCP + 100), 1);
    frame[0] = 0x44; /* a header of 16 bytes is none */
    vnet.csum_start = 16;
    frame[vnet.csum_start + 12] = 5 << 4;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
    vnet = begin(6, 0, VNET_GSO_TCPV6);
    vnet.csum_start = IPV6 - 1;
    frame[vnet.csum_start + 12] = 5 << 4;
    CHECK_EQUAL(check(vnet, IPV6 + TCP + 100), REFUSED);
}

static void a_transport_header_is_whole_and_a_payload_follows(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_TCPV4);
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 1), 1);
    CHECK_EQUAL(check(vnet, IPV4 + TCP), REFUSED);
    CHECK_EQUAL(check(vnet, IPV4 + TCP - 1), REFUSED);
    frame[IPV4 + 12] = 4 << 4;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 1), REFUSED);
    frame[IPV4 + 12] = 15 << 4;
    CHECK_EQUAL(check(vnet, IPV4 + 60 + 1), 1);
    CHECK_EQUAL(check(vnet, IPV4 + 60 - 1), REFUSED);
    vnet = begin(4, 0, VNET_GSO_UDP_L4);
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 1), 1);
    CHECK_EQUAL(check(vnet, IPV4 + UDP), REFUSED);
}

static void a_super_packets_checksum_is_its_protocols(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_TCPV4);
    vnet.csum_offset = 6;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
    vnet = begin(4, 0, VNET_GSO_UDP_L4);
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 100), 1);
    vnet.csum_offset = 16;
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 100), REFUSED);
}

static void a_segment_is_neither_nothing_nor_less_than_a_sender_makes(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_TCPV4);
    vnet.gso_size = 7;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
    vnet.gso_size = 8;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), 13);
    vnet.gso_size = 0xfffe;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), 1);
    vnet.gso_size = 0xffff;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 100), REFUSED);
    vnet = begin(4, 0, VNET_GSO_UDP_L4);
    vnet.gso_size = 1;
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 10), 10);
    vnet.gso_size = 0;
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 10), REFUSED);
}

static void udp_has_64_segments_at_most_and_tcp_has_more(void) {
    struct vnet vnet = begin(4, 0, VNET_GSO_UDP_L4);
    vnet.gso_size = 10;
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 640), 64);
    CHECK_EQUAL(check(vnet, IPV4 + UDP + 641), REFUSED);
    vnet = begin(4, 0, VNET_GSO_TCPV4);
    vnet.gso_size = 10;
    CHECK_EQUAL(check(vnet, IPV4 + TCP + 641), 65);
}

static void the_header_length_is_counted_here_whatever_was_said(void) {
    struct vnet vnet = begin(6, 0, VNET_GSO_TCPV6);
    frame[IPV6 + 12] = 8 << 4;
    CHECK_EQUAL(check(vnet, IPV6 + 32 + 100), 1);
    CHECK_EQUAL(checked.hdr_len, IPV6 + 32);
    CHECK_EQUAL(checked.gso_size, 100);
}

int main(void) {
    RUN(only_the_flag_of_a_checksum_to_complete_is_known);
    RUN(a_checksum_lies_inside_the_frame);
    RUN(a_checksum_begins_behind_the_ip_header);
    RUN(on_ethernet_it_begins_behind_both_headers);
    RUN(what_is_no_super_packet_has_neither_size_nor_header_length);
    RUN(a_super_packet_has_a_checksum_to_complete);
    RUN(the_kind_of_a_super_packet_is_known_and_ecn_goes_with_tcp_alone);
    RUN(tcp_stands_in_the_ip_version_that_its_kind_names);
    RUN(tcp_begins_where_the_ip_header_ends);
    RUN(a_transport_header_is_whole_and_a_payload_follows);
    RUN(a_super_packets_checksum_is_its_protocols);
    RUN(a_segment_is_neither_nothing_nor_less_than_a_sender_makes);
    RUN(udp_has_64_segments_at_most_and_tcp_has_more);
    RUN(the_header_length_is_counted_here_whatever_was_said);
    return EXIT_SUCCESS;
}
