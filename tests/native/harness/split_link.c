#define _GNU_SOURCE
#include "split_link.h"

#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "outbound/datagram_train.h"

struct given given[FRAMES_MAX];
size_t n_given, next_frame, next_segment;
struct random noise = {21};

void open_link(struct link_format format, enum aead aead) {
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

void give_super(const struct super_packet_shape *shape) {
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    CHECK(n_given < FRAMES_MAX);
    struct super_packet *frame = &given[n_given].frame;
    given[n_given++].is_plain = false;
    super_packet_make(frame, &noise, shape);
    vnet_write(&frame->vnet, bytes);
    memcpy(bytes + VNET_LENGTH, frame->bytes, frame->length);
    give_frame(bytes, VNET_LENGTH + frame->length);
}

void give_plain(size_t length) {
    CHECK(n_given < FRAMES_MAX);
    struct super_packet *frame = &given[n_given].frame;
    given[n_given++].is_plain = true;
    ipv4_make(frame->bytes, length, US, 0x0a000002);
    random_fill(&noise, frame->bytes + IPV4_HEADER_SIZE, length - IPV4_HEADER_SIZE);
    frame->length = length;
    give(frame->bytes, length);
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

uint64_t take_all(const struct link_format *format, enum aead aead) {
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
