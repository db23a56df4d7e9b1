/* Super-packets for peers that take none: what the tun-reader puts into its ring opens to the very
 * segments that a network card would send, whatever the link. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "split_link.h"

enum { ROUNDS = 60 };

static struct super_packet_shape random_shape(bool is_tap) {
    struct super_packet_shape shape = {
        .version = random_below(&noise, 2) == 0 ? 4 : 6,
        .is_udp = random_below(&noise, 2) == 0,
        .is_tap = is_tap,
        .tcp_options = 4 * random_below(&noise, 11),
        .tcp_flags = (uint8_t)random_next(&noise),
        .size = 8 + random_below(&noise, random_below(&noise, 4) == 0 ? 30 : 1300),
    };
    size_t most = shape.size * (shape.is_udp ? 64 : 400);
    shape.payload = 1 + random_below(&noise, most < 64000 ? most : 64000);
    return shape;
}

/* -- every kind of link ------------------------------------------------------------------------ */

static void check_link(struct link_format format, enum aead aead) {
    uint64_t n_packets = 0;
    open_link(format, aead);
    for (int round = 0; round < ROUNDS; round++) {
        struct super_packet_shape shape = random_shape(format.mode == MODE_TAP);
        n_given = next_frame = 0;
        if (format.mode == MODE_TUN && round % 3 == 0)
            give_plain(20 + random_below(&noise, 1400));
        give_super(&shape);
        sender_run();
        n_packets += take_all(&format, aead);
        CHECK_EQUAL(next_frame, n_given);
    }
    CHECK_EQUAL(sender_counter(COUNTER_packets), n_packets);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void a_super_packet_becomes_sealed_datagrams_that_open_to_its_segments(void) {
    check_link(datagram_format(MTU), AEAD_CHACHA20_POLY1305);
    check_link(datagram_format(0), AEAD_AES_256_GCM);
}

static void on_a_stream_each_segment_is_a_message_with_its_length_in_front(void) {
    check_link(sealed_format(MODE_TUN, false), AEAD_AES_256_GCM);
    check_link(sealed_format(MODE_TAP, false), AEAD_CHACHA20_POLY1305);
    check_link(plain_format(MODE_TUN, false), AEAD_AES_256_GCM);
    check_link(plain_format(MODE_TAP, false), AEAD_AES_256_GCM);
}

static void simpletun_gets_packets_and_frames(void) {
    check_link(simpletun_format(MODE_TUN), AEAD_AES_256_GCM);
    check_link(simpletun_format(MODE_TAP), AEAD_AES_256_GCM);
}

/* -- limits ------------------------------------------------------------------------------------ */

static void a_segment_longer_than_the_peer_takes_drops_the_super_packet(void) {
    struct super_packet_shape fits = tcp4(1960, 9800), longer = tcp4(1961, 9805);
    struct link_format format = simpletun_format(MODE_TUN);
    open_link(format, AEAD_CHACHA20_POLY1305);
    give_super(&fits);
    sender_run();
    CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305), 5);
    give_super(&longer);
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_message_max), 5);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 10);
    sender_close();
}

/* The message's type counts, too. */
static void so_does_an_ethernet_frame(void) {
    struct super_packet_shape fits = tcp4(2000 - 4 - 54, 5000), longer = tcp4(2000 - 3 - 54, 5000);
    struct link_format format = sealed_format(MODE_TAP, false);
    format.message_max = 2000;
    fits.is_tap = longer.is_tap = true;
    open_link(format, AEAD_CHACHA20_POLY1305);
    give_super(&fits);
    sender_run();
    CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305), 3);
    give_super(&longer);
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_message_max), 3);
    sender_close();
}

/* Longer than a train, which does not matter on a stream. */
static void a_super_packet_of_one_segment_is_a_message_of_any_length(void) {
    struct super_packet_shape shape = tcp4(65200, 65200);
    struct link_format format = plain_format(MODE_TUN, false);
    open_link(format, AEAD_CHACHA20_POLY1305);
    give_super(&shape);
    sender_run();
    bool corrupt = false;
    const struct ring_view *record = ring_peek(sender.lane.ring, &cursor, &corrupt);
    CHECK(record != NULL && record->n_packets == 1);
    CHECK_EQUAL(record->length, STREAM_LENGTH_PREFIX + given[0].frame.length);
    sender_close();
}

static void what_cannot_be_split_is_counted(void) {
    struct super_packet_shape shape = tcp4(1000, 5000);
    uint8_t bytes[VNET_LENGTH + 6000];
    open_link(datagram_format(MTU), AEAD_CHACHA20_POLY1305);
    super_packet_make(&given[0].frame, &noise, &shape);
    given[0].frame.bytes[6] |= 0x20; /* a fragment */
    vnet_write(&given[0].frame.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, given[0].frame.bytes, given[0].frame.length);
    give_frame(bytes, VNET_LENGTH + given[0].frame.length);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_bad_virtio), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    sender_close();
}

/* Linux makes up to 128 since 6.9; the peer's kernel may be older. */
static void udp_in_more_segments_than_every_kernel_takes_is_split_for_every_peer(void) {
    const struct link_format format = sealed_format(MODE_TUN, true);
    struct super_packet_shape shape = {
        .version = 4, .is_udp = true, .size = 400, .payload = 65 * 400};
    open_link(format, AEAD_CHACHA20_POLY1305);
    give_super(&shape);
    sender_run();
    CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305), 65);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 65);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    shape.payload = 64 * 400;
    give_super(&shape);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.record->n_packets, 64);
    CHECK_EQUAL(opened.content[0], MESSAGE_SUPER);
    sender_close();
}

/* As what a kernel makes of a small MSS, of short datagrams, and of options of IPv6. */
static void what_would_amplify_is_split_for_every_peer(void) {
    const struct link_format format = sealed_format(MODE_TUN, true);
    const struct super_packet_shape shapes[] = {
        {.version = 4, .size = 48, .payload = 6000},
        {.version = 4, .size = 1, .payload = 50},
        {.version = 6, .is_udp = true, .size = 20, .payload = 640},
        {.version = 6, .ip_options = 8, .size = 1200, .payload = 12000},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        open_link(format, AEAD_CHACHA20_POLY1305);
        give_super(&shapes[i]);
        sender_run();
        CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305),
                    (shapes[i].payload + shapes[i].size - 1) / shapes[i].size);
        CHECK_EQUAL(next_frame, n_given);
        CHECK_EQUAL(sender_dropped_in_all(), 0);
        sender_close();
    }
}

int main(void) {
    RUN(a_super_packet_becomes_sealed_datagrams_that_open_to_its_segments);
    RUN(on_a_stream_each_segment_is_a_message_with_its_length_in_front);
    RUN(simpletun_gets_packets_and_frames);
    RUN(a_segment_longer_than_the_peer_takes_drops_the_super_packet);
    RUN(so_does_an_ethernet_frame);
    RUN(a_super_packet_of_one_segment_is_a_message_of_any_length);
    RUN(what_cannot_be_split_is_counted);
    RUN(udp_in_more_segments_than_every_kernel_takes_is_split_for_every_peer);
    RUN(what_would_amplify_is_split_for_every_peer);
    return EXIT_SUCCESS;
}
