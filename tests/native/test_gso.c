/* Cutting super-packets, against segments made the long way (super_packet.h). test_gso_kernel.c
 * asks the kernel. */
#include "check.h"
#include "packet/gso.h"
#include "super_packet.h"

enum { N_SHAPES = 4000, N_DISTURBED = 100000 };

static struct super_packet packet;
static struct random noise = {17};

static struct super_packet_shape random_shape(void) {
    struct super_packet_shape shape = super_packet_any_kind(&noise);
    shape.ip_options = random_below(&noise, 2) * 8 * random_below(&noise, 6);
    shape.tcp_flags = (uint8_t)random_next(&noise);
    shape.size = 8 + random_below(&noise, random_below(&noise, 2) == 0 ? 100 : 8993);
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
    if (vnet_check(vnet, *frame, packet.length, packet.l3) < 0 || vnet->gso_type == VNET_GSO_NONE)
        return -1;
    return gso_split_begin(split, vnet, *frame, packet.length);
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

/* -- whatever it holds ------------------------------------------------------------------------- */

static void nothing_outside_the_frame_is_touched_whatever_it_holds(void) {
    int n_cut = 0, n_refused = 0;
    for (int i = 0; i < N_DISTURBED; i++) {
        struct super_packet_shape shape = random_shape();
        shape.payload = 1 + shape.payload % 600;
        super_packet_make(&packet, &noise, &shape);
        for (size_t n = 1 + random_below(&noise, 3); n > 0; n--)
            super_packet_disturb(&packet, &noise);
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

int main(void) {
    RUN(every_segment_is_the_models);
    RUN(a_payload_of_any_length_around_whole_segments_is_cut);
    RUN(identification_and_sequence_number_wrap);
    RUN(fin_and_psh_go_with_the_last_segment_and_cwr_with_the_first);
    RUN(a_checksum_of_zero_is_sent_as_ones_by_udp_only);
    RUN(nothing_outside_the_frame_is_touched_whatever_it_holds);
    return EXIT_SUCCESS;
}
