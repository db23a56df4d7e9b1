/* Super-packets for peers that take none: what the tun-reader puts into its ring opens to the very
 * segments that a network card would send (super_packet.h), whatever the link, and whenever the
 * ring is full. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "outbound/splitting.h"
#include "packet/byteorder.h"
#include "check.h"
#include "outbound/datagram_train.h"
#include "outbound/frame.h"
#include "sender.h"
#include "super_packet.h"

enum { SLOT = 3, FRAMES_MAX = 64, MTU = 1420, ROUNDS = 60 };

/* The frames given to the device, and where in them the ring is. */
static struct given {
    struct super_packet frame;
    bool is_plain;
} given[FRAMES_MAX];
static size_t n_given, next_frame, next_segment;

static struct random noise = {21};

static void open_link(struct link_format format, enum aead aead) {
    n_given = next_frame = next_segment = 0;
    sender_open_wire(format.wire, format.mode);
    unsigned slot = format.wire == WIRE_WIREGUARD && format.mode == MODE_TUN ? SLOT : 0;
    sender_attach(slot, format);
    if (format.wire != WIRE_WIREGUARD)
        return;
    set_key(slot, aead, 0);
    sender_allow_ten(slot);
}

/* -- giving ------------------------------------------------------------------------------------ */

static void give_super(const struct super_packet_shape *shape) {
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    CHECK(n_given < FRAMES_MAX);
    struct super_packet *frame = &given[n_given].frame;
    given[n_given++].is_plain = false;
    super_packet_make(frame, &noise, shape);
    vnet_write(&frame->vnet, bytes);
    memcpy(bytes + VNET_LENGTH, frame->bytes, frame->length);
    give_frame(bytes, VNET_LENGTH + frame->length);
}

static void give_plain(size_t length) {
    CHECK(n_given < FRAMES_MAX);
    struct super_packet *frame = &given[n_given].frame;
    given[n_given++].is_plain = true;
    ipv4_make(frame->bytes, length, US, 0x0a000002);
    random_fill(&noise, frame->bytes + IPV4_HEADER_SIZE, length - IPV4_HEADER_SIZE);
    frame->length = length;
    give(frame->bytes, length);
}

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

/* -- taking ------------------------------------------------------------------------------------ */

static size_t expected_segments(const struct given *frame) {
    return frame->is_plain ? 1 : super_packet_n_segments(&frame->frame);
}

/* The content of the next message; behind the packet there may only be padding. */
static void check_content(const uint8_t *content, size_t length, size_t limit) {
    static uint8_t segment[SUPER_PACKET_MAX];
    CHECK(next_frame < n_given);
    const struct given *frame = &given[next_frame];
    size_t expected = frame->frame.length;
    if (frame->is_plain)
        memcpy(segment, frame->frame.bytes, expected);
    else
        expected = super_packet_segment(&frame->frame, next_segment, segment);
    CHECK(length >= expected && length < expected + DATA_PADDING);
    CHECK(length == expected || length <= limit);
    CHECK_EQUAL(memcmp(content, segment, expected), 0);
    for (size_t i = expected; i < length; i++)
        CHECK_EQUAL(content[i], 0);
    if (++next_segment == expected_segments(frame)) {
        next_segment = 0;
        next_frame++;
    }
}

/* One message of the record; returns its length there. */
static size_t check_message(const struct link_format *format, enum aead aead, const uint8_t *at,
                            size_t left) {
    size_t type = format->mode == MODE_TAP && format->wire != WIRE_SIMPLETUN ? 4 : 0;
    if (format->wire != WIRE_WIREGUARD) {
        CHECK(be16_read(at) + 2u <= left);
        check_content(at + 2 + type, be16_read(at) - type, 0);
        return 2u + be16_read(at);
    }
    size_t segment = opened.record->segment;
    size_t length = segment != 0 && segment < left ? segment : left;
    length = open_message(aead, format->is_datagram, at, length);
    CHECK(type == 0 || opened.content[0] == MESSAGE_ETHERNET);
    size_t padded_max = format->mtu != 0 ? format->mtu : SIZE_MAX;
    check_content(opened.content + type, (size_t)opened.length - type,
                  format->mode == MODE_TAP ? 0 : padded_max);
    return length;
}

/* All records in the ring. Returns the packets in them. */
static uint64_t take_all(const struct link_format *format, enum aead aead) {
    bool corrupt = false;
    uint64_t n_packets = 0;
    while ((opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL) {
        uint32_t n = 0;
        CHECK(opened.record->n_packets <= TRAIN_SEGMENTS_MAX);
        CHECK(opened.record->length <= TRAIN_BYTES_MAX);
        CHECK(format->is_datagram || opened.record->segment == SEGMENT_WHOLE);
        for (size_t at = 0; at < opened.record->length; n++)
            at += check_message(format, aead, opened.record->payload + at,
                                opened.record->length - at);
        CHECK_EQUAL(opened.record->n_packets, n);
        n_packets += n;
    }
    CHECK(!corrupt);
    sender_release();
    return n_packets;
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

static struct super_packet_shape tcp4(size_t size, size_t payload) {
    return (struct super_packet_shape){.version = 4, .size = size, .payload = payload};
}

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

/* Longer than a train, which is no matter on a stream. */
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
static void udp_in_more_segments_than_every_kernel_takes_is_split_for_everybody(void) {
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
static void what_would_amplify_is_split_for_everybody(void) {
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

/* -- a full ring ------------------------------------------------------------------------------- */

/* Gives super-packets until one is half in the ring. */
static void fill_ring(void) {
    const struct super_packet_shape shape = tcp4(100, 40007); /* many records */
    while (!splitting_is_underway(tun_reader_of(sender.worker.loop)->splitting)) {
        give_super(&shape);
        sender_run();
    }
}

static void a_frame_that_finds_the_ring_full_half_way_goes_on_where_it_stood(void) {
    const struct link_format formats[] = {datagram_format(MTU), sealed_format(MODE_TUN, false)};
    for (int i = 0; i < 2; i++) {
        uint64_t n_packets = 0;
        open_link(formats[i], AEAD_CHACHA20_POLY1305);
        for (int round = 0; round < 3; round++) {
            n_given = next_frame = 0;
            fill_ring();
            give_plain(100);
            n_packets += take_all(&formats[i], AEAD_CHACHA20_POLY1305);
            CHECK(next_segment > 0);
            CHECK(loop_send_keepalive(sender.worker.loop, SLOT) < 0); /* not in between */
            sender_run();
            n_packets += take_all(&formats[i], AEAD_CHACHA20_POLY1305);
            CHECK_EQUAL(next_frame, n_given);
        }
        CHECK_EQUAL(sender_counter(COUNTER_packets), n_packets);
        CHECK_EQUAL(sender_dropped_in_all(), 0);
        sender_close();
    }
}

/* By a link of another id, which has a session. */
static void replace_link(struct link_format format) {
    loop_detach_link(sender.worker.loop, SLOT);
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, SLOT, SLOT + 1, -1, &format), 0);
    set_session(SLOT, AEAD_CHACHA20_POLY1305, 1, 0, UINT64_MAX);
}

static void check_left_over(struct link_format format, enum stats_drop reason) {
    uint64_t n_packets = take_all(&format, AEAD_CHACHA20_POLY1305);
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK(sender_dropped(reason) > 0);
    CHECK_EQUAL(n_packets + sender_dropped(reason), sender_counter(COUNTER_packets));
    sender_close();
}

static void what_is_left_of_a_frame_whose_link_or_key_has_gone_is_counted(void) {
    const struct link_format format = datagram_format(MTU);
    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_detach_link(sender.worker.loop, SLOT);
    check_left_over(format, DROP_tun_reader_link_ended);

    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_forget_sending_key(sender.worker.loop, SLOT);
    check_left_over(format, DROP_tun_reader_no_session);
}

/* From UDP to a stream, and the other way; the next frame goes by the new link. */
static void what_is_left_of_a_frame_does_not_go_by_the_link_that_replaced_its_own(void) {
    const struct link_format udp = datagram_format(MTU), stream = sealed_format(MODE_TUN, false);
    for (int i = 0; i < 2; i++) {
        const struct link_format old = i == 0 ? udp : stream, new = i == 0 ? stream : udp;
        open_link(old, AEAD_CHACHA20_POLY1305);
        fill_ring();
        replace_link(new);
        uint64_t n_packets = take_all(&old, AEAD_CHACHA20_POLY1305);
        sender_run();
        CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
        uint64_t n_left = sender_dropped(DROP_tun_reader_link_ended);
        CHECK(n_left > 0);
        CHECK_EQUAL(n_packets + n_left, sender_counter(COUNTER_packets));
        n_given = next_frame = next_segment = 0;
        give_plain(100);
        sender_run();
        bool corrupt = false;
        const struct ring_view *record = ring_peek(sender.lane.ring, &cursor, &corrupt);
        CHECK(record != NULL && record->link_id == SLOT + 1);
        sender_close();
    }
}

/* Which is not sealed, and waits for the next link. */
static void what_is_left_on_a_plain_wire_goes_by_the_next_link(void) {
    const struct link_format format = plain_format(MODE_TUN, false);
    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_detach_link(sender.worker.loop, 0);
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, 0, 7, -1, &format), 0);
    uint64_t n_packets = take_all(&format, AEAD_CHACHA20_POLY1305);
    sender_run();
    n_packets += take_all(&format, AEAD_CHACHA20_POLY1305);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    CHECK_EQUAL(n_packets, sender_counter(COUNTER_packets));
    sender_close();
}

static void a_key_used_up_in_mid_frame_leaves_whole_records_and_counts_the_rest(void) {
    const struct super_packet_shape shape = tcp4(1000, 60 * 1000);
    const struct link_format format = datagram_format(MTU);
    open_link(format, AEAD_CHACHA20_POLY1305);
    set_session(SLOT, AEAD_CHACHA20_POLY1305, 1, REJECT_AFTER_MESSAGES - 20, UINT64_MAX);
    give_super(&shape);
    sender_run();
    CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305), 20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 40);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 60);
    give_super(&shape); /* and no empty record */
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 100);
    sender_close();
}

int main(void) {
    RUN(a_super_packet_becomes_sealed_datagrams_that_open_to_its_segments);
    RUN(on_a_stream_each_segment_is_a_message_with_its_length_in_front);
    RUN(simpletun_gets_packets_and_frames);
    RUN(a_segment_longer_than_the_peer_takes_drops_the_super_packet);
    RUN(so_does_an_ethernet_frame);
    RUN(a_super_packet_of_one_segment_is_a_message_of_any_length);
    RUN(what_cannot_be_split_is_counted);
    RUN(udp_in_more_segments_than_every_kernel_takes_is_split_for_everybody);
    RUN(a_frame_that_finds_the_ring_full_half_way_goes_on_where_it_stood);
    RUN(what_is_left_of_a_frame_whose_link_or_key_has_gone_is_counted);
    RUN(what_is_left_of_a_frame_does_not_go_by_the_link_that_replaced_its_own);
    RUN(what_is_left_on_a_plain_wire_goes_by_the_next_link);
    RUN(what_would_amplify_is_split_for_everybody);
    RUN(a_key_used_up_in_mid_frame_leaves_whole_records_and_counts_the_rest);
    return EXIT_SUCCESS;
}
