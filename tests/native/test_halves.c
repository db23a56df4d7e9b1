/* Frames and segments that go in two halves, as the tun-reader makes them: joined again, each is what
 * it was. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "frames.h"
#include "packet/gso.h"
#include "packet/pieces.h"
#include "random.h"
#include "sender.h"

enum { SLOT = 3, PATH = 1400 };

static struct piece_table table;
static struct piece_result result;
static struct frame frame;

static void open_path(bool joins) {
    struct link_format format = datagram_format(0);
    format.mode = MODE_TAP;
    format.joins_pieces = joins;
    sender_open(MODE_TAP);
    sender_attach(SLOT, format);
    set_key(SLOT, AEAD_AES_256_GCM, 0);
    loop_set_packet_max(sender.worker.loop, SLOT, PATH, 0);
    pieces_forget(&table, NULL);
}

/* The next datagram of the record at `at`; the frame that it completes lies in opened.content. */
static size_t open_datagram(size_t at, bool *is_frame) {
    size_t n =
        opened.record->segment == SEGMENT_WHOLE ? opened.record->length : opened.record->segment;
    size_t left = opened.record->length - at;
    n = n < left ? n : left;
    open_message(AEAD_AES_256_GCM, true, opened.record->payload + at, n);
    *is_frame = opened.content[0] == MESSAGE_ETHERNET;
    if (*is_frame)
        return n;
    struct piece_arrival arrival = {1, opened.counter, 1000, ECN_NOT_ECT};
    enum piece_end end =
        piece_take(&table, NULL, &arrival, opened.content, (size_t)opened.length, &result);
    CHECK(end != PIECE_BAD && result.lost_length == 0);
    *is_frame = end == PIECE_JOINED;
    opened.length = (int)(MESSAGE_TYPE_LENGTH + result.length);
    return n;
}

/* Compares the frames of the ring with the segments that the splitter makes. Returns how many. */
static int check_frames(void) {
    static uint8_t expected[MESSAGE_MAX];
    struct vnet vnet = vnet_read(frame.bytes);
    struct gso_split split;
    int n = 0, n_expected = 1;
    bool corrupt = false, is_frame;
    CHECK(vnet_check(&vnet, frame.bytes + VNET_LENGTH, frame.length - VNET_LENGTH,
                     ETHERNET_HEADER_SIZE) > 0);
    if (vnet.gso_type != VNET_GSO_NONE) {
        n_expected =
            gso_split_begin(&split, &vnet, frame.bytes + VNET_LENGTH, frame.length - VNET_LENGTH);
        bool has_ids = split.is_ipv4 && (split.frame[split.ip + 6] & 0x40) == 0;
        if (!split.is_udp && !has_ids &&
            MESSAGE_TYPE_LENGTH + gso_segment_length(&split, 0) > PATH) {
            vnet.gso_size = (uint16_t)(PATH - MESSAGE_TYPE_LENGTH - split.header_length);
            n_expected = gso_split_begin(&split, &vnet, split.frame, split.length);
        }
    }
    while ((opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL)
        for (size_t at = 0; at < opened.record->length;) {
            at += open_datagram(at, &is_frame);
            if (!is_frame)
                continue;
            size_t length = frame.length - VNET_LENGTH;
            memcpy(expected, frame.bytes + VNET_LENGTH, length);
            if (vnet.gso_type != VNET_GSO_NONE) {
                length = gso_segment_length(&split, n);
                gso_write_segment(&split, n, expected);
            }
            CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + length);
            CHECK_EQUAL(memcmp(opened.content + MESSAGE_TYPE_LENGTH, expected, length), 0);
            n++;
        }
    CHECK_EQUAL(n, n_expected);
    return n;
}

static void a_frame_longer_than_the_path_goes_in_two_datagrams_of_one_length(void) {
    struct random random = {5};
    for (size_t length = PATH - 20; length < 1523; length++) {
        open_path(true);
        frame_make(&frame, &random, MODE_TAP, FRAME_IPV4, length);
        give_frame(frame.bytes, frame.length);
        sender_run();
        check_frames();
        CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
        bool is_whole = MESSAGE_TYPE_LENGTH + length <= PATH;
        CHECK_EQUAL(sender_field(SLOT, "sealed"), is_whole ? 1 : 2);
        sender_close();
    }
}

static void super_packets_go_in_pieces_and_their_last_segment_by_itself(void) {
    struct random random = {6};
    for (int round = 0; round < 60; round++) {
        open_path(true);
        do
            frame_make(&frame, &random, MODE_TAP,
                       (enum frame_kind)(FRAME_TCP4_SUPER + random_below(&random, 4)),
                       2000 + random_below(&random, 60000));
        while (vnet_read(frame.bytes).gso_size > 1460);
        give_frame(frame.bytes, frame.length);
        sender_run();
        check_frames();
        CHECK(sender_counter(COUNTER_packets) >= frame.n_packets);
        CHECK_EQUAL(sender_dropped_in_all(), 0);
        sender_close();
    }
}

static void tcp_is_cut_shorter_where_its_identifications_say_nothing(void) {
    struct random random = {4};
    for (int df = 0; df < 2; df++) {
        open_path(true);
        frame_make(&frame, &random, MODE_TAP, FRAME_TCP4_SUPER, 30000);
        uint8_t *ip = frame.bytes + VNET_LENGTH + ETHERNET_HEADER_SIZE;
        ip[6] = df ? 0x40 : 0;
        struct vnet vnet = vnet_read(frame.bytes);
        vnet.gso_size = 1448;
        vnet_write(&vnet, frame.bytes);
        give_frame(frame.bytes, frame.length);
        sender_run();
        int n = check_frames();
        CHECK_EQUAL(sender_counter(COUNTER_packets), n);
        CHECK_EQUAL(sender_field(SLOT, "sealed"), df ? n : 2 * n - 1);
        sender_close();
    }
}

static void to_a_peer_that_joins_none_and_what_is_too_long_for_two_goes_in_fragments(void) {
    struct random random = {8};
    bool corrupt = false;
    for (int joins = 0; joins < 2; joins++) {
        open_path(joins);
        frame_make(&frame, &random, MODE_TAP, FRAME_IPV4, joins ? 2 * PATH : PATH + 100);
        give_frame(frame.bytes, frame.length);
        sender_run();
        opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt);
        CHECK(opened.record != NULL);
        CHECK_EQUAL(opened.record->segment, SEGMENT_FRAGMENTS);
        sender_close();
    }
}

int main(void) {
    RUN(a_frame_longer_than_the_path_goes_in_two_datagrams_of_one_length);
    RUN(super_packets_go_in_pieces_and_their_last_segment_by_itself);
    RUN(tcp_is_cut_shorter_where_its_identifications_say_nothing);
    RUN(to_a_peer_that_joins_none_and_what_is_too_long_for_two_goes_in_fragments);
    return EXIT_SUCCESS;
}
