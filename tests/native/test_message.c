/* Frames to messages and back. Every message is in memory of exactly its size, so that ASan
 * sees a byte read too far. */
#define _GNU_SOURCE
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "formats.h"
#include "frames.h"
#include "super_packet.h"

static struct frame frame;

static struct link_format plain(enum mode mode) {
    return plain_format(mode, true);
}

/* Lays `frame` out behind exactly the headroom that the header file asks for. The slot is freed by
 * the caller; outbound points into it. */
static uint8_t *encapsulate(const struct link_format *format, enum message_fault *fault,
                            struct message_outbound *outbound) {
    uint8_t *slot = malloc(MESSAGE_HEADROOM + frame.length);
    CHECK(slot != NULL);
    memcpy(slot + MESSAGE_HEADROOM, frame.bytes, frame.length);
    *fault =
        message_encapsulate(format, slot + MESSAGE_HEADROOM, frame.length - VNET_LENGTH, outbound);
    return slot;
}

static enum message_fault encapsulate_fault(const struct link_format *format) {
    struct message_outbound outbound;
    enum message_fault fault;
    free(encapsulate(format, &fault, &outbound));
    return fault;
}

static enum message_fault decapsulate(const struct link_format *format, const uint8_t *message,
                                      size_t length) {
    struct message_inbound inbound;
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL);
    memcpy(exact, message, length);
    enum message_fault fault = message_decapsulate(format, exact, length, &inbound);
    if (fault == MESSAGE_OK) {
        CHECK(inbound.frame >= exact && inbound.frame + inbound.length == exact + length);
        CHECK(inbound.n_packets >= 1);
    }
    free(exact);
    return fault;
}

static void check_round_trip(const struct link_format *format) {
    struct message_outbound outbound;
    struct message_inbound inbound;
    enum message_fault fault;
    uint8_t vnet[VNET_LENGTH], *slot = encapsulate(format, &fault, &outbound);
    CHECK_EQUAL(fault, MESSAGE_OK);
    CHECK(outbound.start >= slot &&
          outbound.start + outbound.length == slot + MESSAGE_HEADROOM + frame.length);
    CHECK_EQUAL(outbound.n_packets, frame.n_packets);
    CHECK_EQUAL(message_decapsulate(format, outbound.start, outbound.length, &inbound), MESSAGE_OK);
    vnet_write(&inbound.vnet, vnet);
    CHECK_EQUAL(inbound.n_packets, frame.n_packets);
    CHECK_EQUAL(inbound.length, frame.length - VNET_LENGTH);
    CHECK_EQUAL(memcmp(vnet, frame.bytes, VNET_LENGTH), 0);
    CHECK_EQUAL(memcmp(inbound.frame, frame.bytes + VNET_LENGTH, inbound.length), 0);
    free(slot);
}

static void every_kind_of_frame_comes_back_as_it_went(void) {
    struct random random = {5};
    for (int i = 0; i < 3000; i++) {
        enum mode mode = i % 2 == 0 ? MODE_TUN : MODE_TAP;
        struct link_format format = i % 3 == 0 ? simpletun_format(mode) : plain(mode);
        size_t n_kinds = i % 3 == 0 ? N_PLAIN_KINDS : N_FRAME_KINDS;
        frame_make_any(&frame, &random, mode, n_kinds,
                       format.message_max - MESSAGE_TYPE_LENGTH - VNET_LENGTH);
        check_round_trip(&format);
    }
}

static void no_cut_of_a_message_is_read_past_its_end(void) {
    struct random random = {6};
    for (int kind = 0; kind < N_FRAME_KINDS; kind++) {
        for (int tap = 0; tap < 2; tap++) {
            struct link_format format = plain(tap ? MODE_TAP : MODE_TUN);
            struct message_outbound outbound;
            enum message_fault fault;
            frame_make(&frame, &random, format.mode, (enum frame_kind)kind, 200);
            uint8_t *slot = encapsulate(&format, &fault, &outbound);
            CHECK_EQUAL(fault, MESSAGE_OK);
            for (size_t n = 1; n < outbound.length; n++)
                decapsulate(&format, outbound.start, n);
            free(slot);
        }
    }
}

/* As a peer may write it: each field is small, so that most of them point into the frame. */
static void an_offload_header_that_points_anywhere_is_followed_inside_the_frame_only(void) {
    const uint8_t types[] = {VNET_GSO_NONE, VNET_GSO_TCPV4, VNET_GSO_TCPV6, VNET_GSO_UDP_L4};
    struct random random = {12};
    for (int i = 0; i < 300000; i++) {
        struct link_format format = plain(random_below(&random, 2) == 0 ? MODE_TUN : MODE_TAP);
        size_t l3 = format.mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0;
        uint8_t message[MESSAGE_TYPE_LENGTH + VNET_LENGTH + 120] = {MESSAGE_SUPER};
        uint8_t *packet = message + MESSAGE_TYPE_LENGTH + VNET_LENGTH;
        random_fill(&random, packet, 120);
        packet[l3] = random_below(&random, 2) == 0 ? 0x45 : 0x60;
        struct vnet vnet = {.flags = VNET_NEEDS_CSUM,
                            .gso_type = types[random_below(&random, sizeof types)],
                            .gso_size = (uint16_t)random_below(&random, 40),
                            .csum_start = (uint16_t)random_below(&random, 121),
                            .csum_offset = (uint16_t)random_below(&random, 20)};
        if (random_below(&random, 2) == 0)
            vnet.csum_start =
                (uint16_t)(l3 + (packet[l3] == 0x45 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE));
        vnet_write(&vnet, message + MESSAGE_TYPE_LENGTH);
        decapsulate(&format, message,
                    MESSAGE_TYPE_LENGTH + VNET_LENGTH + random_below(&random, 121));
    }
}

static void what_is_not_ip_is_refused_on_a_tun_device(void) {
    struct link_format format = plain(MODE_TUN), original = simpletun_format(MODE_TUN);
    uint8_t packet[60] = {0x45};
    CHECK_EQUAL(decapsulate(&format, packet, IPV4_HEADER_SIZE), MESSAGE_OK);
    CHECK_EQUAL(decapsulate(&format, packet, IPV4_HEADER_SIZE - 1), MESSAGE_NOT_IP);
    packet[0] = 0x60;
    CHECK_EQUAL(decapsulate(&original, packet, IPV6_HEADER_SIZE), MESSAGE_OK);
    CHECK_EQUAL(decapsulate(&original, packet, IPV6_HEADER_SIZE - 1), MESSAGE_NOT_IP);
    for (int version = 0; version < 16; version++) {
        packet[0] = (uint8_t)(version << 4);
        enum message_fault expected = version == 4 || version == 6 ? MESSAGE_OK : MESSAGE_NOT_IP;
        CHECK_EQUAL(decapsulate(&original, packet, sizeof packet), expected);
    }
}

static void an_ethernet_frame_has_a_whole_header(void) {
    struct link_format format = plain(MODE_TAP), original = simpletun_format(MODE_TAP);
    uint8_t message[64] = {MESSAGE_ETHERNET};
    CHECK_EQUAL(decapsulate(&original, message, ETHERNET_HEADER_SIZE), MESSAGE_OK);
    CHECK_EQUAL(decapsulate(&original, message, ETHERNET_HEADER_SIZE - 1), MESSAGE_NOT_IP);
    CHECK_EQUAL(decapsulate(&format, message, MESSAGE_TYPE_LENGTH + ETHERNET_HEADER_SIZE),
                MESSAGE_OK);
    CHECK_EQUAL(decapsulate(&format, message, MESSAGE_TYPE_LENGTH + ETHERNET_HEADER_SIZE - 1),
                MESSAGE_NOT_IP);
    CHECK_EQUAL(decapsulate(&format, message, 1), MESSAGE_NOT_IP);
}

static void a_type_that_was_not_offered_is_refused(void) {
    struct link_format tun = plain(MODE_TUN), tap = plain(MODE_TAP);
    uint8_t message[64] = {MESSAGE_ETHERNET};
    CHECK_EQUAL(decapsulate(&tun, message, sizeof message), MESSAGE_BAD_TYPE);
    message[0] = 0x45; /* bare IP belongs to TUN links */
    CHECK_EQUAL(decapsulate(&tap, message, sizeof message), MESSAGE_BAD_TYPE);
    message[0] = MESSAGE_SUPER;
    message[MESSAGE_TYPE_LENGTH + VNET_LENGTH] = 0x45;
    CHECK_EQUAL(decapsulate(&tun, message, sizeof message), MESSAGE_OK);
    tun.super_inbound = false;
    CHECK_EQUAL(decapsulate(&tun, message, sizeof message), MESSAGE_BAD_TYPE);
}

static void a_frame_is_as_long_as_the_peer_takes_and_no_longer(void) {
    struct random random = {8};
    struct link_format original = simpletun_format(MODE_TUN), tap = plain(MODE_TAP);
    frame_make(&frame, &random, MODE_TUN, FRAME_IPV4, SIMPLETUN_MESSAGE_MAX);
    CHECK_EQUAL(encapsulate_fault(&original), MESSAGE_OK);
    frame_make(&frame, &random, MODE_TUN, FRAME_IPV4, SIMPLETUN_MESSAGE_MAX + 1);
    CHECK_EQUAL(encapsulate_fault(&original), MESSAGE_TOO_LARGE);
    frame_make(&frame, &random, MODE_TAP, FRAME_IPV6, MESSAGE_MAX - MESSAGE_TYPE_LENGTH);
    CHECK_EQUAL(encapsulate_fault(&tap), MESSAGE_OK);
    frame_make(&frame, &random, MODE_TAP, FRAME_IPV6, MESSAGE_MAX - MESSAGE_TYPE_LENGTH + 1);
    CHECK_EQUAL(encapsulate_fault(&tap), MESSAGE_TOO_LARGE);
}

static void a_super_packet_goes_only_to_a_peer_that_takes_it(void) {
    struct random random = {9};
    struct link_format format = plain(MODE_TUN);
    format.super_outbound = false;
    for (int kind = FRAME_TCP4_SUPER; kind < N_FRAME_KINDS; kind++) {
        frame_make(&frame, &random, MODE_TUN, (enum frame_kind)kind, 3000);
        CHECK_EQUAL(encapsulate_fault(&format), MESSAGE_NOT_OFFERED);
    }
}

static void a_peer_that_takes_super_packets_of_tcp_only_gets_those(void) {
    struct random random = {16};
    struct link_format format = plain(MODE_TUN);
    format.splits_udp = true;
    for (int kind = 0; kind < N_FRAME_KINDS; kind++) {
        bool is_udp = kind == FRAME_UDP4_SUPER || kind == FRAME_UDP6_SUPER;
        frame_make(&frame, &random, MODE_TUN, (enum frame_kind)kind, 3000);
        CHECK_EQUAL(encapsulate_fault(&format), is_udp ? MESSAGE_NOT_OFFERED : MESSAGE_OK);
    }
}

static void more_segments_of_udp_than_every_kernel_takes_go_to_no_peer(void) {
    struct random random = {17};
    struct link_format format = plain(MODE_TUN);
    for (size_t n = 64; n <= 65; n++) {
        frame_make(&frame, &random, MODE_TUN, FRAME_UDP4_SUPER, IPV4_HEADER_SIZE + 8 + 300 * n);
        struct vnet vnet = vnet_read(frame.bytes);
        vnet.gso_size = 300;
        vnet_write(&vnet, frame.bytes);
        CHECK_EQUAL(encapsulate_fault(&format), n == 64 ? MESSAGE_OK : MESSAGE_NOT_OFFERED);
    }
}

/* The frame goes out as a plain one, and complete. */
static void check_completed(const struct link_format *format) {
    struct message_outbound outbound;
    struct message_inbound inbound;
    enum message_fault fault;
    struct vnet vnet = vnet_read(frame.bytes);
    size_t length = frame.length - VNET_LENGTH;
    uint8_t *slot = encapsulate(format, &fault, &outbound), *packet = frame.bytes + VNET_LENGTH;
    CHECK_EQUAL(fault, MESSAGE_OK);
    CHECK_EQUAL(outbound.n_packets, 1);
    uint16_t sum = naive_sum(0, packet + vnet.csum_start, length - vnet.csum_start);
    be16_write(packet + vnet.csum_start + vnet.csum_offset, sum == 0xffff ? sum : (uint16_t)~sum);
    CHECK_EQUAL(message_decapsulate(format, outbound.start, outbound.length, &inbound), MESSAGE_OK);
    CHECK(vnet_is_plain(&inbound.vnet));
    CHECK_EQUAL(inbound.length, length);
    CHECK_EQUAL(memcmp(inbound.frame, packet, length), 0);
    free(slot);
}

static void what_a_peer_is_not_to_complete_is_complete(void) {
    struct random random = {13};
    for (int i = 0; i < 200; i++) {
        enum mode mode = i % 2 == 0 ? MODE_TUN : MODE_TAP;
        struct link_format original = simpletun_format(mode), format = plain(mode);
        format.super_outbound = false;
        frame_make(&frame, &random, mode, FRAME_UNCHECKSUMMED, 200 + (size_t)i);
        check_completed(i % 4 < 2 ? &original : &format);
    }
}

/* The kernel leaves that of a VXLAN's inner packet to be completed, for one. */
static void a_checksum_that_is_not_the_packets_own_is_completed_for_every_peer(void) {
    struct random random = {14};
    for (size_t start = 0; start < 180; start++) {
        enum mode mode = start % 2 == 0 ? MODE_TUN : MODE_TAP;
        size_t own = IPV4_HEADER_SIZE + (mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0);
        struct link_format format = plain(mode);
        struct vnet vnet = {VNET_NEEDS_CSUM, VNET_GSO_NONE, 0, 0, (uint16_t)start, 6, 0};
        if (start < own + 20) /* the headers that are looked at stay as they are */
            continue;
        frame_make(&frame, &random, mode, FRAME_UNCHECKSUMMED, 200);
        vnet_write(&vnet, frame.bytes);
        check_completed(&format);
        vnet.csum_start = 193; /* outside, by a byte */
        vnet_write(&vnet, frame.bytes);
        CHECK_EQUAL(encapsulate_fault(&format), MESSAGE_BAD_VIRTIO);
    }
}

static void an_unknown_flag_is_not_passed_over(void) {
    struct random random = {15};
    struct link_format format = plain(MODE_TUN);
    frame_make(&frame, &random, MODE_TUN, FRAME_IPV4, 500);
    for (int bit = 2; bit < 8; bit++) {
        frame.bytes[0] = (uint8_t)(1 << bit);
        CHECK_EQUAL(encapsulate_fault(&format), MESSAGE_BAD_VIRTIO);
    }
}

static void a_checksum_our_kernel_verified_is_not_news_for_the_peer(void) {
    struct random random = {10};
    struct link_format format = plain(MODE_TUN);
    frame_make(&frame, &random, MODE_TUN, FRAME_IPV4, 500);
    frame.bytes[0] = VNET_DATA_VALID;
    CHECK_EQUAL(encapsulate_fault(&format), MESSAGE_OK);
    uint8_t message[MESSAGE_TYPE_LENGTH + VNET_LENGTH + 60] = {MESSAGE_SUPER};
    message[MESSAGE_TYPE_LENGTH] = VNET_DATA_VALID; /* nor may a peer vouch for its own */
    message[MESSAGE_TYPE_LENGTH + VNET_LENGTH] = 0x45;
    CHECK_EQUAL(decapsulate(&format, message, sizeof message), MESSAGE_BAD_VIRTIO);
}

int main(void) {
    RUN(every_kind_of_frame_comes_back_as_it_went);
    RUN(no_cut_of_a_message_is_read_past_its_end);
    RUN(an_offload_header_that_points_anywhere_is_followed_inside_the_frame_only);
    RUN(what_is_not_ip_is_refused_on_a_tun_device);
    RUN(an_ethernet_frame_has_a_whole_header);
    RUN(a_type_that_was_not_offered_is_refused);
    RUN(a_frame_is_as_long_as_the_peer_takes_and_no_longer);
    RUN(a_super_packet_goes_only_to_a_peer_that_takes_it);
    RUN(a_peer_that_takes_super_packets_of_tcp_only_gets_those);
    RUN(more_segments_of_udp_than_every_kernel_takes_go_to_no_peer);
    RUN(what_a_peer_is_not_to_complete_is_complete);
    RUN(a_checksum_that_is_not_the_packets_own_is_completed_for_every_peer);
    RUN(an_unknown_flag_is_not_passed_over);
    RUN(a_checksum_our_kernel_verified_is_not_news_for_the_peer);
    return EXIT_SUCCESS;
}
