/* What a super-packet from the network may become: twice its bytes on a wire, counted here
 * segment by segment the long way (super_packet.h), and at each bound to the byte. What the sender
 * lets go whole the receiver takes, and the other way round. */
#define _GNU_SOURCE
#include <string.h>

#include "packet/amplification.h"
#include "check.h"
#include "formats.h"
#include "packet/encapsulation.h"
#include "super_packet.h"

enum {
    N_SHAPES = 20000,
    /* Ethernet with preamble, checksum and gap; IPv6; UDP; header, tag, padding and type. */
    AROUND = (14 + 8 + 4 + 12) + 40 + 8 + 16 + 16 + 15 + 4,
};

static struct super_packet packet;
static struct random noise = {31};

static bool breaks_the_rule(void) {
    struct vnet vnet = packet.vnet;
    int n = vnet_check_local(&vnet, packet.bytes, packet.length, packet.l3);
    CHECK(n > 0);
    return amplifies(&vnet, n, packet.bytes, packet.length);
}

static void make(struct super_packet_shape shape) {
    super_packet_make(&packet, &noise, &shape);
}

static size_t bytes_on_wire(void) {
    static uint8_t segment[SUPER_PACKET_MAX];
    size_t n_bytes = 0;
    for (size_t i = 0; i < super_packet_n_segments(&packet); i++)
        n_bytes += AROUND + super_packet_segment(&packet, i, segment);
    return n_bytes;
}

/* -- the bound --------------------------------------------------------------------------------- */

static struct super_packet_shape random_shape(void) {
    struct super_packet_shape shape = super_packet_any_kind(&noise);
    shape.size = 1 + random_below(&noise, random_below(&noise, 2) == 0 ? 400 : 1400);
    shape.ip_options = shape.version == 4 ? 4 * random_below(&noise, 11) : 0;
    size_t n_max = 1 + random_below(&noise, shape.is_udp ? 64 : 40);
    size_t most = shape.size * n_max;
    shape.payload = 1 + random_below(&noise, most < 64000 ? most : 64000);
    return shape;
}

static void a_super_packet_becomes_twice_its_bytes_at_most(void) {
    size_t n_refused = 0;
    for (int i = 0; i < N_SHAPES; i++) {
        make(random_shape());
        CHECK_EQUAL(breaks_the_rule(), bytes_on_wire() > 2 * packet.length);
        n_refused += breaks_the_rule();
    }
    CHECK(n_refused > N_SHAPES / 10 && n_refused < N_SHAPES * 9 / 10);
}

/* The least segments of which there may be 64 KiB. */
static size_t least_size(struct super_packet_shape shape) {
    for (shape.size = 1;; shape.size++) {
        shape.payload = shape.is_udp ? 64 * shape.size : 65000 / shape.size * shape.size;
        make(shape);
        if (!breaks_the_rule())
            return shape.size;
    }
}

static void the_least_segments_are_these(void) {
    CHECK_EQUAL(least_size((struct super_packet_shape){.version = 4, .is_udp = true}), 165);
    CHECK_EQUAL(least_size((struct super_packet_shape){.version = 6, .is_udp = true}), 184);
    CHECK_EQUAL(least_size((struct super_packet_shape){.version = 4}), 177);
    CHECK_EQUAL(least_size((struct super_packet_shape){.version = 6, .tcp_options = 12}), 209);
    CHECK_EQUAL(least_size((struct super_packet_shape){.version = 6, .tcp_options = 40}), 237);
}

/* However few they are, and however long the segments. */
static void ipv6_extension_headers_are_not_for_super_packets(void) {
    for (size_t n_bytes = 0; n_bytes <= 1296; n_bytes += 8)
        for (int is_udp = 0; is_udp < 2; is_udp++) {
            make((struct super_packet_shape){.version = 6,
                                             .is_udp = is_udp,
                                             .is_tap = n_bytes % 16 == 0,
                                             .ip_options = n_bytes,
                                             .size = 1200,
                                             .payload = 24000});
            CHECK_EQUAL(breaks_the_rule(), n_bytes > 0);
        }
}

static void what_linux_usually_makes_goes_whole(void) {
    const size_t sizes[] = {1448, 1428, 1368, 1240, 1200, 524, 500, 300, 240};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int version = 4; version <= 6; version += 2) {
            make((struct super_packet_shape){
                .version = version, .tcp_options = 12, .size = sizes[i], .payload = 64000});
            CHECK(!breaks_the_rule());
            make((struct super_packet_shape){
                .version = version, .is_udp = true, .size = sizes[i], .payload = 40 * sizes[i]});
            CHECK(!breaks_the_rule());
        }
}

/* -- both ends --------------------------------------------------------------------------------- */

static uint8_t device_frame[MESSAGE_HEADROOM + VNET_LENGTH + SUPER_PACKET_MAX + MESSAGE_TAILROOM];

/* As the device gives it; returns whether it went, and then as what. */
static enum message_fault send(const struct link_format *format, struct message_outbound *message) {
    uint8_t *vnet = device_frame + MESSAGE_HEADROOM;
    vnet_write(&packet.vnet, vnet);
    memcpy(vnet + VNET_LENGTH, packet.bytes, packet.length);
    bool is_whole = message_takes_whole(format, vnet, packet.length);
    enum message_fault fault = message_encapsulate(format, vnet, packet.length, message);
    CHECK_EQUAL(fault, is_whole ? MESSAGE_OK : MESSAGE_NOT_OFFERED);
    return fault;
}

/* A peer without our check. */
static enum message_fault receive_as_it_is(const struct link_format *format) {
    struct message_inbound inbound;
    uint8_t *message = device_frame;
    memset(message, 0, MESSAGE_TYPE_LENGTH);
    message[0] = MESSAGE_SUPER;
    vnet_write(&packet.vnet, message + MESSAGE_TYPE_LENGTH);
    memcpy(message + MESSAGE_TYPE_LENGTH + VNET_LENGTH, packet.bytes, packet.length);
    return message_decapsulate(format, message, MESSAGE_TYPE_LENGTH + VNET_LENGTH + packet.length,
                               &inbound);
}

static void the_sender_lets_go_whole_what_the_receiver_takes_and_nothing_else(void) {
    const struct link_format formats[] = {
        plain_format(MODE_TUN, true),
        plain_format(MODE_TAP, true),
        sealed_format(MODE_TUN, true),
        sealed_format(MODE_TAP, true),
    };
    for (int i = 0; i < N_SHAPES; i++) {
        struct message_outbound sent;
        struct message_inbound received;
        struct super_packet_shape shape = random_shape();
        if (shape.version == 6 && random_below(&noise, 4) == 0)
            shape.ip_options = 8;
        make(shape);
        const struct link_format *format =
            &formats[2 * random_below(&noise, 2) + (packet.l3 != 0 ? 1 : 0)];
        bool is_taken = send(format, &sent) == MESSAGE_OK;
        CHECK_EQUAL(is_taken, !breaks_the_rule());
        if (is_taken)
            CHECK_EQUAL(message_decapsulate(format, sent.start, sent.length, &received),
                        MESSAGE_OK);
        CHECK_EQUAL(receive_as_it_is(format), is_taken ? MESSAGE_OK : MESSAGE_AMPLIFIES);
    }
}

/* Neither whole nor split; the look at its segments would be at nothing. */
static void what_our_own_kernel_left_wrong_is_refused(void) {
    const struct link_format format = plain_format(MODE_TUN, true);
    struct message_outbound sent;
    uint8_t *vnet = device_frame + MESSAGE_HEADROOM;
    for (int version = 4; version <= 6; version += 2) {
        make((struct super_packet_shape){.version = version, .size = 1000, .payload = 9000});
        packet.vnet.csum_offset++;
        vnet_write(&packet.vnet, vnet);
        memcpy(vnet + VNET_LENGTH, packet.bytes, packet.length);
        CHECK(!message_takes_whole(&format, vnet, packet.length));
        CHECK_EQUAL(message_encapsulate(&format, vnet, packet.length, &sent), MESSAGE_BAD_VIRTIO);
    }
}

/* However short: it has paid for itself. */
static void a_packet_alone_goes_as_it_is(void) {
    const struct link_format format = plain_format(MODE_TUN, true);
    struct message_outbound sent;
    for (int version = 4; version <= 6; version += 2)
        for (size_t payload = 1; payload < 100; payload++) {
            make((struct super_packet_shape){.version = version,
                                             .is_udp = true,
                                             .ip_options = version == 6 ? 1296 : 0,
                                             .size = payload,
                                             .payload = payload});
            packet.vnet.gso_type = VNET_GSO_NONE;
            CHECK_EQUAL(send(&format, &sent), MESSAGE_OK);
            CHECK_EQUAL(receive_as_it_is(&format), MESSAGE_OK);
        }
}

int main(void) {
    RUN(a_super_packet_becomes_twice_its_bytes_at_most);
    RUN(the_least_segments_are_these);
    RUN(ipv6_extension_headers_are_not_for_super_packets);
    RUN(what_linux_usually_makes_goes_whole);
    RUN(the_sender_lets_go_whole_what_the_receiver_takes_and_nothing_else);
    RUN(what_our_own_kernel_left_wrong_is_refused);
    RUN(a_packet_alone_goes_as_it_is);
    return EXIT_SUCCESS;
}
