/* vnet_check at each of its bounds: what the kernel makes passes (super_packet.h), one step beyond
 * does not. The property tests compare it with a model; this names every bound, and ASan sees a
 * byte read too far, since each frame is in memory of exactly its size. */
#include "vnet_case.h"

/* -- flags and kinds --------------------------------------------------------------------------- */

static void what_a_kernel_makes_passes(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        make_shape(random_shape());
        packet.vnet.hdr_len = (uint16_t)random_next(&noise);
        CHECK_EQUAL(check(), super_packet_n_segments(&packet));
        CHECK_EQUAL(checked.hdr_len, packet.header);
        CHECK_EQUAL(checked.ip_start, packet.ip);
        packet.vnet.gso_type = VNET_GSO_NONE;
        CHECK_EQUAL(check(), 1);
    }
}

static void only_the_flag_of_a_checksum_to_complete_is_known(void) {
    make_single(4, false, 100);
    CHECK_EQUAL(check(), 1);
    for (unsigned bit = 1; bit < 8; bit++) {
        packet.vnet.flags = (uint8_t)(VNET_NEEDS_CSUM | 1u << bit);
        CHECK_EQUAL(check(), REFUSED);
        packet.vnet.flags = (uint8_t)(1u << bit);
        CHECK_EQUAL(check(), REFUSED);
    }
}

static void without_a_checksum_to_complete_its_fields_are_not_looked_at(void) {
    make_single(4, false, 100);
    packet.vnet.csum_start = 0xfff0;
    CHECK_EQUAL(check(), REFUSED);
    packet.vnet.flags = 0;
    CHECK_EQUAL(check(), 1);
    packet.bytes[0] = 0; /* nor at the packet */
    CHECK_EQUAL(check(), 1);
}

static void what_is_not_a_super_packet_has_neither_size_nor_header_length(void) {
    make_single(4, false, 100);
    CHECK_EQUAL(check(), 1);
    CHECK_EQUAL(checked.gso_size, 0);
    CHECK_EQUAL(checked.hdr_len, 0);
}

static void a_super_packet_has_a_checksum_to_complete(void) {
    make(4, false, 100, 1000);
    CHECK_EQUAL(check(), 10);
    packet.vnet.flags = 0;
    CHECK_EQUAL(check(), REFUSED);
}

static void the_kind_of_a_super_packet_is_its_protocols_and_ecn_goes_with_tcp_alone(void) {
    for (int is_udp = 0; is_udp < 2; is_udp++)
        for (int version = 4; version <= 6; version += 2)
            for (unsigned kind = 0; kind < 256; kind++) {
                make(version, is_udp, 100, 100);
                unsigned tcp = version == 4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
                bool is_right = is_udp ? kind == VNET_GSO_UDP_L4 : (kind & 0x7f) == tcp;
                packet.vnet.gso_type = (uint8_t)kind;
                CHECK_EQUAL(check(), is_right || kind == VNET_GSO_NONE ? 1 : REFUSED);
            }
}

/* -- the checksum's place ---------------------------------------------------------------------- */

static void a_checksum_is_where_its_protocol_has_it_and_nowhere_else(void) {
    for (int i = 0; i < 16; i++) {
        struct super_packet_shape shape = random_shape();
        shape.payload = shape.size;
        make_shape(shape);
        struct vnet right = packet.vnet;
        for (int is_super = 0; is_super < 2; is_super++) {
            packet.vnet = right;
            packet.vnet.gso_type = is_super ? right.gso_type : VNET_GSO_NONE;
            for (unsigned start = 0; start <= UINT16_MAX; start++) {
                packet.vnet.csum_start = (uint16_t)start;
                CHECK_EQUAL(check(), start == right.csum_start ? 1 : REFUSED);
            }
            packet.vnet.csum_start = right.csum_start;
            for (unsigned offset = 0; offset <= UINT16_MAX; offset++) {
                packet.vnet.csum_offset = (uint16_t)offset;
                CHECK_EQUAL(check(), offset == right.csum_offset ? 1 : REFUSED);
            }
        }
    }
}

static void a_transport_header_is_whole_and_a_payload_follows(void) {
    for (int version = 4; version <= 6; version += 2) {
        size_t ip = version == 4 ? IPV4 : IPV6;
        make(version, false, 100, 100);
        cut(ip + TCP + 1);
        CHECK_EQUAL(check(), 1);
        cut(ip + TCP);
        CHECK_EQUAL(check(), REFUSED);
        packet.vnet.gso_type = VNET_GSO_NONE; /* a packet alone may have none */
        CHECK_EQUAL(check(), 1);
        for (size_t length = 1; length < ip + TCP; length++) {
            packet.length = length;
            CHECK_EQUAL(check(), REFUSED);
        }
        make(version, true, 100, 100);
        cut(ip + UDP + 1);
        CHECK_EQUAL(check(), 1);
        cut(ip + UDP);
        CHECK_EQUAL(check(), REFUSED);
        packet.vnet.gso_type = VNET_GSO_NONE;
        CHECK_EQUAL(check(), 1);
        packet.length = ip + UDP - 1;
        CHECK_EQUAL(check(), REFUSED);
    }
}

static void a_tcp_header_is_20_bytes_at_least_and_has_all_its_options(void) {
    make(4, false, 100, 100);
    for (size_t words = 0; words < 16; words++) {
        packet.bytes[IPV4 + 12] = (uint8_t)(words << 4);
        CHECK_EQUAL(check(), words < 5 ? REFUSED : 1);
        if (words >= 5)
            CHECK_EQUAL(checked.hdr_len, IPV4 + 4 * words);
    }
    cut(IPV4 + 60);
    CHECK_EQUAL(check(), REFUSED);
    cut(IPV4 + 60 + 1);
    CHECK_EQUAL(check(), 1);
}

/* -- segments ---------------------------------------------------------------------------------- */

static void a_segment_is_neither_nothing_nor_what_means_something_else(void) {
    make(4, false, 0, 100);
    CHECK_EQUAL(check(), REFUSED);
    packet.vnet.gso_size = 1; /* as receive offload makes of single bytes that are forwarded */
    CHECK_EQUAL(check(), 100);
    packet.vnet.gso_size = 0xfffe;
    CHECK_EQUAL(check(), 1);
    packet.vnet.gso_size = 0xffff;
    CHECK_EQUAL(check(), REFUSED);
    make(4, true, 1, 10);
    CHECK_EQUAL(check(), 10);
    packet.vnet.gso_size = 0;
    CHECK_EQUAL(check(), REFUSED);
    CHECK_EQUAL(check_with(vnet_check_local), REFUSED);
}

/* Of another's: some kernels take no more. Our own makes up to 128. */
static void udp_has_64_segments_at_most_and_tcp_has_more(void) {
    for (int version = 4; version <= 6; version += 2) {
        make(version, true, 10, 640);
        CHECK_EQUAL(check(), 64);
        CHECK(!vnet_has_many_segments(&packet.vnet, packet.length));
        make(version, true, 10, 641);
        CHECK_EQUAL(check(), REFUSED);
        CHECK(vnet_has_many_segments(&packet.vnet, packet.length));
        CHECK_EQUAL(check_with(vnet_check_local), 65);
        make(version, false, 10, 641);
        CHECK_EQUAL(check(), 65);
        CHECK(!vnet_has_many_segments(&packet.vnet, packet.length));
    }
}

static void a_super_packet_is_as_long_as_its_ip_header_says(void) {
    for (int version = 4; version <= 6; version += 2) {
        uint8_t *field = packet.bytes + (version == 4 ? 2 : 4);
        make(version, false, 100, 1000);
        uint16_t right = be16_read(field);
        for (unsigned length = 0; length <= UINT16_MAX; length++) {
            be16_write(field, (uint16_t)length);
            CHECK_EQUAL(check(), length == right ? 10 : REFUSED);
        }
        packet.vnet.gso_type = VNET_GSO_NONE; /* Ethernet pads */
        CHECK_EQUAL(check(), 1);
    }
}

/* -- completing -------------------------------------------------------------------------------- */

/* Chooses the last word of the packet so that its checksum computes to 0. */
static void make_checksum_zero(void) {
    static uint8_t segment[SUPER_PACKET_MAX];
    uint8_t *word = packet.bytes + packet.length - 2;
    be16_write(word, 0);
    super_packet_segment(&packet, 0, segment);
    be16_write(word, be16_read(super_packet_checksum(&packet, segment)));
}

static void a_packet_gets_the_checksum_that_was_left_out(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        static uint8_t expected[SUPER_PACKET_MAX];
        struct super_packet_shape shape = random_shape();
        shape.size = shape.payload;
        make_shape(shape);
        if (i % 8 == 0 && shape.payload % 2 == 0)
            make_checksum_zero();
        super_packet_segment(&packet, 0, expected);
        uint8_t *checksum = super_packet_checksum(&packet, expected),
                *exact = malloc(packet.length);
        if (be16_read(checksum) == 0)
            be16_write(checksum, 0xffff); /* as the kernel does it, for TCP too */
        CHECK(exact != NULL);
        memcpy(exact, packet.bytes, packet.length);
        CHECK(!vnet_complete(&packet.vnet, exact, packet.length, packet.l3)); /* a super-packet */
        CHECK_EQUAL(memcmp(exact, packet.bytes, packet.length), 0);
        packet.vnet.gso_type = VNET_GSO_NONE;
        CHECK(vnet_complete(&packet.vnet, exact, packet.length, packet.l3));
        CHECK_EQUAL(memcmp(exact, expected, packet.length), 0);
        CHECK(vnet_is_plain(&packet.vnet));
        free(exact);
    }
}

static void a_checksum_that_is_completed_lies_inside_the_frame_and_behind_ip(void) {
    for (size_t l3 = 0; l3 <= 14; l3 += 14)
        for (unsigned start = 0; start < 64; start++)
            for (unsigned offset = 0; offset < 64; offset++) {
                uint8_t *exact = calloc(1, 60);
                struct vnet vnet = {.flags = VNET_NEEDS_CSUM,
                                    .csum_start = (uint16_t)start,
                                    .csum_offset = (uint16_t)offset};
                CHECK(exact != NULL);
                CHECK_EQUAL(vnet_complete(&vnet, exact, 60, l3),
                            start >= l3 + IPV4 && start + offset + 2 <= 60);
                free(exact);
            }
    struct vnet vnet = {.flags = VNET_NEEDS_CSUM, .csum_start = 0xfff0, .csum_offset = 0x0040};
    CHECK(!vnet_complete(&vnet, packet.bytes, 1000, 0)); /* the sum would wrap in 16 bits */
    vnet = (struct vnet){.flags = VNET_DATA_VALID, .csum_start = IPV4, .csum_offset = 16};
    CHECK(!vnet_complete(&vnet, packet.bytes, 1000, 0));
}

/* -- whatever it holds ------------------------------------------------------------------------- */

static void nothing_outside_the_frame_is_read_whatever_it_holds(void) {
    int n_passed = 0, n_refused = 0;
    for (int i = 0; i < N_DISTURBED; i++) {
        make_shape(random_shape());
        super_packet_disturb(&packet, &noise);
        int n = check();
        n_passed += n > 0;
        n_refused += n < 0;
    }
    CHECK(n_passed > N_DISTURBED / 10 && n_refused > N_DISTURBED / 10);
}

int main(void) {
    RUN(what_a_kernel_makes_passes);
    RUN(only_the_flag_of_a_checksum_to_complete_is_known);
    RUN(without_a_checksum_to_complete_its_fields_are_not_looked_at);
    RUN(what_is_not_a_super_packet_has_neither_size_nor_header_length);
    RUN(a_super_packet_has_a_checksum_to_complete);
    RUN(the_kind_of_a_super_packet_is_its_protocols_and_ecn_goes_with_tcp_alone);
    RUN(a_checksum_is_where_its_protocol_has_it_and_nowhere_else);
    RUN(a_transport_header_is_whole_and_a_payload_follows);
    RUN(a_tcp_header_is_20_bytes_at_least_and_has_all_its_options);
    RUN(a_segment_is_neither_nothing_nor_what_means_something_else);
    RUN(udp_has_64_segments_at_most_and_tcp_has_more);
    RUN(a_super_packet_is_as_long_as_its_ip_header_says);
    RUN(a_packet_gets_the_checksum_that_was_left_out);
    RUN(a_checksum_that_is_completed_lies_inside_the_frame_and_behind_ip);
    RUN(nothing_outside_the_frame_is_read_whatever_it_holds);
    return EXIT_SUCCESS;
}
