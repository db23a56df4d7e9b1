/* Cutting super-packets, against segments made the long way (super_packet.h). test_gso_kernel.c
 * asks the kernel. */
#include "check.h"
#include "gso.h"
#include "super_packet.h"

enum { N_SHAPES = 4000, N_DISTURBED = 100000 };

static struct super_packet packet;
static struct random noise = {17};

static struct super_packet_shape random_shape(void) {
    struct super_packet_shape shape = {
        .version = random_below(&noise, 2) == 0 ? 4 : 6,
        .is_udp = random_below(&noise, 2) == 0,
        .is_tap = random_below(&noise, 2) == 0,
        .ip_options = random_below(&noise, 2) * 8 * random_below(&noise, 6),
        .tcp_options = 4 * random_below(&noise, 11),
        .tcp_flags = (uint8_t)random_next(&noise),
        .size = 8 + random_below(&noise, random_below(&noise, 2) == 0 ? 100 : 8993),
    };
    shape.n_tags = shape.is_tap ? random_below(&noise, 3) : 0;
    size_t n = 1 + random_below(&noise, 64), payload_max = SUPER_PACKET_MAX - 200;
    shape.payload = n * shape.size - random_below(&noise, 2) * random_below(&noise, shape.size);
    if (shape.payload > payload_max)
        shape.payload = payload_max - payload_max % shape.size;
    return shape;
}

/* -- checks ------------------------------------------------------------------------------------ */

/* Begins on a copy that ends where the frame does, for ASan. */
static int begin(struct gso_split *split, struct vnet *vnet, uint8_t **frame) {
    *frame = malloc(packet.length);
    CHECK(*frame != NULL);
    memcpy(*frame, packet.bytes, packet.length);
    *vnet = packet.vnet;
    if (vnet_check(vnet, *frame, packet.length, packet.l3) < 0)
        return -2;
    return gso_split_begin(split, vnet, *frame, packet.length, packet.l3);
}

static void write_all(const struct gso_split *split, int n) {
    for (int i = 0; i < n; i++) {
        size_t length = gso_segment_length(split, i);
        CHECK(length <= gso_segment_length(split, 0) && length <= split->length);
        uint8_t *exact = malloc(length);
        CHECK(exact != NULL);
        gso_write_segment(split, i, exact);
        free(exact);
    }
}

static void check_segment(const struct gso_split *split, int i) {
    static uint8_t expected[SUPER_PACKET_MAX];
    size_t length = super_packet_segment(&packet, (size_t)i, expected);
    CHECK_EQUAL(gso_segment_length(split, i), length);
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL);
    gso_write_segment(split, i, exact);
    for (size_t at = 0; at < length; at++)
        CHECK_EQUAL(exact[at], expected[at]);
    free(exact);
}

static void check_all_segments(void) {
    struct gso_split split;
    struct vnet vnet;
    uint8_t *frame;
    int n = begin(&split, &vnet, &frame);
    CHECK_EQUAL(n, super_packet_n_segments(&packet));
    for (int i = 0; i < n; i++)
        check_segment(&split, i);
    free(frame);
}

static void make(int version, bool is_udp, size_t size, size_t payload) {
    struct super_packet_shape shape = {
        .version = version, .is_udp = is_udp, .size = size, .payload = payload};
    super_packet_make(&packet, &noise, &shape);
}

/* Chooses the last word of the payload so that the first segment's checksum computes to 0. */
static void make_checksum_zero(size_t last_word) {
    static uint8_t segment[SUPER_PACKET_MAX];
    be16_write(packet.bytes + last_word, 0);
    super_packet_segment(&packet, 0, segment);
    be16_write(packet.bytes + last_word, be16_read(super_packet_checksum(&packet, segment)));
}

/* -- what is cut ------------------------------------------------------------------------------- */

static void every_segment_is_the_models(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        struct super_packet_shape shape = random_shape();
        super_packet_make(&packet, &noise, &shape);
        check_all_segments();
    }
}

static void a_payload_of_any_length_around_whole_segments_is_cut(void) {
    for (int kind = 0; kind < 4; kind++)
        for (size_t payload = 1; payload < 3 * 64 + 2; payload++) {
            make(kind % 2 == 0 ? 4 : 6, kind >= 2, 64, payload);
            check_all_segments();
        }
}

static void identification_and_sequence_number_wrap(void) {
    make(4, false, 1000, 10000);
    be16_write(packet.bytes + 4, 0xfffd);
    be32_write(packet.bytes + packet.transport + 4, 0xffffff00);
    check_all_segments();
    make(6, false, 1000, 10000);
    be32_write(packet.bytes + packet.transport + 4, 0xfffffc18);
    check_all_segments();
}

static void fin_and_psh_go_with_the_last_segment_and_cwr_with_the_first(void) {
    struct gso_split split;
    struct vnet vnet;
    uint8_t *frame, segment[2000];
    for (int n_segments = 1; n_segments < 5; n_segments++) {
        make(4, false, 1000, 1000u * (unsigned)n_segments);
        packet.vnet.gso_type |= VNET_GSO_ECN;
        packet.bytes[packet.transport + 13] = 0xff;
        CHECK_EQUAL(begin(&split, &vnet, &frame), n_segments);
        for (int i = 0; i < n_segments; i++) {
            gso_write_segment(&split, i, segment);
            uint8_t flags = segment[packet.transport + 13];
            CHECK_EQUAL((flags & SUPER_PACKET_FIN) != 0, i == n_segments - 1);
            CHECK_EQUAL((flags & SUPER_PACKET_PSH) != 0, i == n_segments - 1);
            CHECK_EQUAL((flags & SUPER_PACKET_CWR) != 0, i == 0);
            CHECK_EQUAL(flags & 0x76, 0x76); /* and all others with every one */
        }
        free(frame);
    }
}

static void a_checksum_of_zero_is_sent_as_ones_by_udp_only(void) {
    for (int kind = 0; kind < 4; kind++) {
        bool is_udp = kind >= 2;
        uint8_t segment[2000], *frame;
        struct gso_split split;
        struct vnet vnet;
        make(kind % 2 == 0 ? 4 : 6, is_udp, 1000, 3000);
        make_checksum_zero(packet.header + 998);
        CHECK_EQUAL(begin(&split, &vnet, &frame), 3);
        gso_write_segment(&split, 0, segment);
        CHECK_EQUAL(be16_read(super_packet_checksum(&packet, segment)), is_udp ? 0xffff : 0);
        free(frame);
        check_all_segments();
    }
}

/* -- what is not cut --------------------------------------------------------------------------- */

static void a_packet_gets_the_checksum_that_was_left_out(void) {
    for (int i = 0; i < N_SHAPES; i++) {
        struct super_packet_shape shape = random_shape();
        shape.size = shape.payload;
        super_packet_make(&packet, &noise, &shape);
        if (i % 8 == 0 && shape.payload % 2 == 0)
            make_checksum_zero(packet.length - 2);
        uint8_t *expected = malloc(packet.length), *written = malloc(packet.length), *frame;
        CHECK(expected != NULL && written != NULL);
        super_packet_segment(&packet, 0, expected);
        uint8_t *checksum = super_packet_checksum(&packet, expected);
        if (be16_read(checksum) == 0)
            be16_write(checksum, 0xffff); /* as the kernel does it, for TCP too */
        packet.vnet.gso_type = VNET_GSO_NONE;
        packet.vnet.gso_size = 0;
        struct gso_split split;
        struct vnet vnet;
        CHECK_EQUAL(begin(&split, &vnet, &frame), 1);
        CHECK_EQUAL(gso_segment_length(&split, 0), packet.length);
        gso_write_segment(&split, 0, written);
        CHECK(memcmp(written, expected, packet.length) == 0);
        free(expected);
        free(written);
        free(frame);
    }
}

static void a_packet_without_anything_to_do_is_copied(void) {
    for (size_t length = 1; length < 2000; length += 7) {
        uint8_t *written = malloc(length), *frame;
        struct gso_split split;
        struct vnet vnet;
        packet = (struct super_packet){.length = length};
        random_fill(&noise, packet.bytes, length);
        CHECK_EQUAL(begin(&split, &vnet, &frame), 1);
        CHECK_EQUAL(gso_segment_length(&split, 0), length);
        gso_write_segment(&split, 0, written);
        CHECK(memcmp(written, packet.bytes, length) == 0);
        free(written);
        free(frame);
    }
}

/* -- what cannot be cut ------------------------------------------------------------------------ */

static bool is_refused(void) {
    struct gso_split split;
    struct vnet vnet;
    uint8_t *frame;
    int n = begin(&split, &vnet, &frame);
    CHECK(n != -2); /* or the claim would be vnet_check's */
    free(frame);
    return n == -1;
}

static void a_fragment_is_not_cut(void) {
    for (int bit = 0; bit < 16; bit++) {
        make(4, bit % 2 == 0, 100, 1000);
        be16_write(packet.bytes + 6, (uint16_t)(1 << bit));
        CHECK_EQUAL(is_refused(), bit < 14); /* the two bits above: DF, and the reserved one */
    }
}

static void a_protocol_that_contradicts_the_offload_header_is_refused(void) {
    for (int protocol = 0; protocol < 256; protocol++)
        for (int kind = 0; kind < 4; kind++) {
            int version = kind % 2 == 0 ? 4 : 6;
            make(version, kind >= 2, 100, 1000);
            packet.bytes[version == 4 ? 9 : 6] = (uint8_t)protocol;
            CHECK_EQUAL(is_refused(), protocol != (kind >= 2 ? 17 : 6));
        }
}

/* On a TAP device vnet_check does not look. */
static void an_ip_version_that_contradicts_the_offload_header_is_refused(void) {
    for (int version = 4; version <= 6; version += 2) {
        struct super_packet_shape shape = {
            .version = version, .is_tap = true, .ip_options = 24, .size = 100, .payload = 500};
        super_packet_make(&packet, &noise, &shape);
        CHECK(!is_refused());
        packet.vnet.gso_type = version == 4 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
        CHECK(is_refused());
    }
}

static void a_version_that_is_neither_4_nor_6_is_refused(void) {
    for (int version = 0; version < 16; version++)
        for (int is_tap = 0; is_tap < 2; is_tap++) {
            struct super_packet_shape shape = {
                .version = 6, .is_udp = true, .is_tap = is_tap, .size = 100, .payload = 500};
            super_packet_make(&packet, &noise, &shape);
            packet.bytes[packet.ip] = (uint8_t)(version << 4);
            CHECK_EQUAL(is_refused(), version != 6);
        }
}

/* One header of each type and length between IPv6 header and transport. */
static void only_options_and_routing_may_stand_before_the_transport(void) {
    for (int type = 0; type < 256; type++) {
        struct super_packet_shape shape = {
            .version = 6, .is_udp = type % 2 == 0, .ip_options = 8, .size = 100, .payload = 500};
        super_packet_make(&packet, &noise, &shape);
        packet.bytes[6] = (uint8_t)type;
        CHECK_EQUAL(is_refused(), type != 0 && type != 43 && type != 60);
    }
    for (int units = 0; units < 256; units++) {
        struct super_packet_shape shape = {
            .version = 6, .is_udp = units % 2 == 0, .ip_options = 48, .size = 100, .payload = 500};
        super_packet_make(&packet, &noise, &shape);
        packet.bytes[49] = (uint8_t)units;
        CHECK_EQUAL(is_refused(), units != 4);
    }
}

static void a_jumbogram_is_refused(void) {
    make(6, false, 1000, 5000);
    CHECK(!is_refused());
    be16_write(packet.bytes + 4, 0);
    CHECK(is_refused());
}

static void an_ethernet_header_that_contradicts_the_packet_is_refused(void) {
    for (size_t n_tags = 0; n_tags <= 2; n_tags++)
        for (int version = 4; version <= 6; version += 2) {
            struct super_packet_shape shape = {.version = version,
                                               .is_udp = n_tags == 1,
                                               .is_tap = true,
                                               .n_tags = n_tags,
                                               .size = 100,
                                               .payload = 500};
            super_packet_make(&packet, &noise, &shape);
            CHECK(!is_refused());
            uint8_t *type = packet.bytes + 12 + 4 * n_tags;
            static const uint16_t wrong[] = {0, 0x0806, 0x8100, 0x88a8, 0xffff};
            for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
                be16_write(type, wrong[i]);
                CHECK(is_refused());
            }
            be16_write(type, version == 4 ? 0x86dd : 0x0800);
            CHECK(is_refused());
        }
}

/* A third tag is a type that is not IP's. */
static void there_are_two_vlan_tags_at_most(void) {
    struct super_packet_shape shape = {
        .version = 4, .is_tap = true, .n_tags = 2, .size = 100, .payload = 500};
    super_packet_make(&packet, &noise, &shape);
    CHECK(!is_refused());
    memmove(packet.bytes + 16, packet.bytes + 12, packet.length - 12); /* the first one twice */
    packet.length += 4;
    packet.vnet.csum_start += 4;
    packet.vnet.hdr_len += 4;
    CHECK(is_refused());
}

static void an_ip_header_that_ends_elsewhere_is_refused(void) {
    struct super_packet_shape shape = {
        .version = 4, .is_tap = true, .ip_options = 8, .size = 100, .payload = 500};
    super_packet_make(&packet, &noise, &shape);
    for (int words = 0; words < 16; words++) {
        packet.bytes[14] = (uint8_t)(0x40 | words);
        CHECK_EQUAL(is_refused(), words != 7);
    }
    for (int version = 0; version < 16; version++) {
        packet.bytes[14] = (uint8_t)(version << 4 | 7);
        CHECK_EQUAL(is_refused(), version != 4);
    }
    /* too short: vnet_check does not know of the tags */
    for (size_t n_tags = 1; n_tags <= 2; n_tags++) {
        shape = (struct super_packet_shape){
            .version = 4, .is_tap = true, .n_tags = n_tags, .size = 100, .payload = 500};
        super_packet_make(&packet, &noise, &shape);
        size_t words = 5 - n_tags;
        packet.bytes[packet.ip] = (uint8_t)(0x40 | words);
        packet.vnet.csum_start = (uint16_t)(packet.ip + 4 * words);
        packet.bytes[packet.vnet.csum_start + 12] = 5 << 4;
        CHECK(is_refused());
    }
}

/* -- whatever it holds ------------------------------------------------------------------------- */

static void disturb(void) {
    struct vnet *vnet = &packet.vnet;
    switch (random_below(&noise, 6)) {
    case 0:
        vnet->csum_start = (uint16_t)random_below(&noise, packet.length);
        break;
    case 1:
        vnet->gso_size = (uint16_t)random_next(&noise);
        break;
    case 2:
        vnet->gso_type = (uint8_t)random_below(&noise, 6);
        break;
    case 3:
        packet.length = 1 + random_below(&noise, packet.length);
        break;
    default:
        packet.bytes[random_below(&noise, packet.header)] = (uint8_t)random_next(&noise);
        break;
    }
}

static void nothing_outside_the_frame_is_touched_whatever_it_holds(void) {
    int n_cut = 0, n_refused = 0;
    for (int i = 0; i < N_DISTURBED; i++) {
        struct super_packet_shape shape = random_shape();
        shape.payload = 1 + shape.payload % 600;
        super_packet_make(&packet, &noise, &shape);
        for (size_t n = 1 + random_below(&noise, 3); n > 0; n--)
            disturb();
        struct gso_split split;
        struct vnet vnet;
        uint8_t *frame;
        int n = begin(&split, &vnet, &frame);
        n_cut += n > 0;
        n_refused += n == -1;
        write_all(&split, n);
        free(frame);
    }
    CHECK(n_cut > N_DISTURBED / 10 && n_refused > N_DISTURBED / 50);
}

/* An Ethernet frame may be longer than hdr_len can say. */
static void a_header_that_ends_behind_64_kib_is_refused(void) {
    enum { TRANSPORT = 14 + 40 + 8180 * 8, LENGTH = 65557 };
    uint8_t *frame = calloc(1, LENGTH); /* empty hop-by-hop options, one behind the other */
    CHECK(frame != NULL);
    be16_write(frame + 12, 0x86dd);
    frame[14] = 0x60;
    be16_write(frame + 18, LENGTH - 54);
    frame[TRANSPORT - 8] = 6;
    for (size_t header = 20; header <= 60; header += 4) {
        struct vnet vnet = {VNET_NEEDS_CSUM, VNET_GSO_TCPV6, 0, 1000, TRANSPORT, 16};
        struct gso_split split;
        frame[TRANSPORT + 12] = (uint8_t)(header / 4 << 4);
        CHECK_EQUAL(vnet_check(&vnet, frame, LENGTH, 14), 1);
        int n = gso_split_begin(&split, &vnet, frame, LENGTH, 14);
        CHECK_EQUAL(n, TRANSPORT + header > UINT16_MAX ? -1 : 1);
        write_all(&split, n);
    }
    free(frame);
}

int main(void) {
    RUN(every_segment_is_the_models);
    RUN(a_payload_of_any_length_around_whole_segments_is_cut);
    RUN(identification_and_sequence_number_wrap);
    RUN(fin_and_psh_go_with_the_last_segment_and_cwr_with_the_first);
    RUN(a_checksum_of_zero_is_sent_as_ones_by_udp_only);
    RUN(a_packet_gets_the_checksum_that_was_left_out);
    RUN(a_packet_without_anything_to_do_is_copied);
    RUN(a_fragment_is_not_cut);
    RUN(a_protocol_that_contradicts_the_offload_header_is_refused);
    RUN(an_ip_version_that_contradicts_the_offload_header_is_refused);
    RUN(a_version_that_is_neither_4_nor_6_is_refused);
    RUN(only_options_and_routing_may_stand_before_the_transport);
    RUN(a_jumbogram_is_refused);
    RUN(an_ethernet_header_that_contradicts_the_packet_is_refused);
    RUN(there_are_two_vlan_tags_at_most);
    RUN(an_ip_header_that_ends_elsewhere_is_refused);
    RUN(nothing_outside_the_frame_is_touched_whatever_it_holds);
    RUN(a_header_that_ends_behind_64_kib_is_refused);
    return EXIT_SUCCESS;
}
