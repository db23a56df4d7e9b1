/* Pieces of super-packets before the link-reader: what is joined is checked as what comes whole, and
 * is the device's; what is not joined is counted. The peer may be anything but honest. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "datagram_link.h"
#include "packet/byteorder.h"
#include "packet/pieces.h"
#include "super_packet.h"

enum { SLICE = 1000, OTHER_KEY = 2, OTHER_INDEX = 0x80000002 };

static struct super_packet super;
static uint8_t whole[VNET_LENGTH + SUPER_PACKET_MAX];
static size_t whole_length;
static struct random noise = {12};

/* TCP from an address, as a device would give it. */
static void make_super(uint32_t source, size_t size, size_t payload) {
    struct super_packet_shape shape = {.version = 4, .size = size, .payload = payload};
    super_packet_make(&super, &noise, &shape);
    super.bytes[1] = 0;
    be32_write(super.bytes + 12, source);
    be32_write(super.bytes + 16, OUR_ADDRESS);
    naive_ip_checksum(super.bytes);
    super_packet_leave_sum(&super);
    vnet_write(&super.vnet, whole);
    memcpy(whole + VNET_LENGTH, super.bytes, super.length);
    whole_length = VNET_LENGTH + super.length;
}

static unsigned n_pieces(void) {
    return (unsigned)((whole_length + SLICE - 1) / SLICE);
}

static void send_piece_under(unsigned key, uint32_t index, uint64_t first, unsigned i) {
    uint8_t piece[PIECE_HEADER + SLICE];
    size_t left = whole_length - i * SLICE, n = left < SLICE ? left : SLICE;
    piece_write_header(piece, i, (uint16_t)first, whole_length, SLICE);
    memcpy(piece + PIECE_HEADER, whole + i * SLICE, n);
    sealed_make(&sealed, reader.aead, key, index, first + i, piece, PIECE_HEADER + n);
    datagram_send_sealed(0);
}

static void send_piece(uint64_t first, unsigned i) {
    send_piece_under(KEY, INDEX, first, i);
}

static void send_all(uint64_t first) {
    for (unsigned i = 0; i < n_pieces(); i++)
        send_piece(first, i);
}

static void open_joining(void) {
    datagrams_open(AEAD_AES_256_GCM, true);
    loop_coalesce(reader.loop, DEVICE_OFFLOAD_TCP_UDP);
}

/* So many super-packets like the last one have been joined, with all their packets. */
static void check_joined(size_t n, unsigned reason, size_t n_dropped) {
    size_t n_packets = n * super_packet_n_segments(&super);
    CHECK_EQUAL(lane_count_records(&reader.lane), n);
    CHECK_EQUAL(stats_read_counter(reader.lane.stats, ROLE_link_reader, COUNTER_packets),
                n_packets + n_dropped);
    CHECK_EQUAL(field(SLOT, "receive_packets"), n_packets);
    lane_check_dropped(&reader.lane, reason, n_dropped);
}

/* The next record of the ring is the super-packet, with its header. */
static void check_record(uint64_t *cursor) {
    bool corrupt = false;
    const struct ring_view *record = ring_peek(reader.lane.ring, cursor, &corrupt);
    CHECK(record != NULL);
    CHECK_EQUAL(record->length, whole_length);
    CHECK_EQUAL(record->n_packets, super_packet_n_segments(&super));
    CHECK_EQUAL(memcmp(record->payload, whole, whole_length), 0);
}

static void what_is_joined_is_the_devices_in_any_order_of_the_pieces(void) {
    uint64_t cursor;
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    cursor = ring_first(reader.lane.ring);
    send_all(256);
    datagrams_run();
    check_record(&cursor);
    check_joined(1, NO_DROP, 0);
    for (unsigned i = n_pieces(); i-- > 0;)
        send_piece(1000, i);
    datagrams_run();
    check_record(&cursor);
    check_joined(2, NO_DROP, 0);
    CHECK_EQUAL(field(SLOT, "receive_bytes"), 2 * super.length);
    datagrams_close();
}

/* Nothing of it reaches the device, although it can be joined. */
static void check_refused(enum stats_drop reason, size_t n_dropped) {
    open_joining();
    send_all(256);
    datagrams_run();
    check_joined(0, reason, n_dropped);
    datagrams_close();
}

static void what_is_joined_is_checked_like_what_comes_whole(void) {
    make_super(OTHER_ADDRESS, 1300, 30 * 1300);
    check_refused(DROP_link_reader_bad_source, 30);
    make_super(PEER_ADDRESS, 20, 30 * 1300);
    check_refused(DROP_link_reader_amplifies, 1);
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    whole[6]++; /* csum_start */
    check_refused(DROP_link_reader_bad_virtio, 1);
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    whole[VNET_LENGTH] = 0;
    check_refused(DROP_link_reader_not_ip, 1);
}

/* With offload off nothing was offered. */
static void a_device_without_super_packets_is_given_none(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    datagrams_open(AEAD_AES_256_GCM, true);
    send_all(256);
    datagrams_run();
    check_joined(0, DROP_link_reader_bad_type, 1);
    datagrams_close();
}

static void a_whole_that_lacks_a_piece_is_counted_when_another_takes_its_place(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    for (uint64_t k = 0; k < 5; k++)
        for (unsigned i = 1; i < n_pieces(); i++)
            send_piece(300 + 100 * k, i);
    datagrams_run();
    check_joined(0, DROP_link_reader_piece_lost, 5 - PIECE_PLACES_LONG);
    send_all(2000);
    datagrams_run();
    check_joined(1, DROP_link_reader_piece_lost, 5 - PIECE_PLACES_LONG + 1);
    datagrams_close();
}

static void what_waits_for_its_pieces_is_counted_when_its_peer_goes(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    send_piece(256, 0);
    send_piece(356, 1);
    datagrams_run();
    check_joined(0, DROP_link_reader_piece_lost, 0);
    loop_forget_ips(reader.loop, SLOT);
    check_joined(0, DROP_link_reader_piece_lost, 2);
    loop_forget_ips(reader.loop, SLOT);
    check_joined(0, DROP_link_reader_piece_lost, 2);
    datagrams_close();
}

/* The same counters, in two sessions of one peer and in another peer's. */
static void pieces_of_two_sessions_are_not_joined(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    add_key(KEY, INDEX + 9, 0);
    for (unsigned i = 0; i < n_pieces(); i++)
        send_piece_under(KEY, i % 2 == 0 ? INDEX : INDEX + 9, 256, i);
    datagrams_run();
    check_joined(0, NO_DROP, 0);
    for (unsigned i = 0; i < n_pieces(); i++)
        send_piece_under(KEY, i % 2 == 1 ? INDEX : INDEX + 9, 256, i);
    datagrams_run();
    check_joined(2, NO_DROP, 0);
    datagrams_close();
}

static void a_piece_that_no_sender_makes_is_dropped_and_the_others_are_joined(void) {
    uint8_t bad[PIECE_HEADER + 100] = {0};
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    send_piece(256, 0);
    piece_write_header(bad, 7, 256, 60000, 100);
    sealed_make(&sealed, reader.aead, KEY, INDEX, 256 + 200, bad, sizeof bad);
    datagram_send_sealed(0); /* its counter is not that of the seventh */
    for (unsigned i = 1; i < n_pieces(); i++)
        send_piece(256, i);
    datagrams_run();
    check_joined(1, DROP_link_reader_bad_piece, 1);
    datagrams_close();
}

/* -- what comes in between, while a whole is put together in the ring -------------------------- */

static void send_some(uint64_t first, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++)
        send_piece(first, i);
}

/* Packets of the peer, and a whole that they have come in the middle of. */
static void check_packets_and_whole(size_t n_packets, unsigned reason, size_t n_dropped) {
    uint64_t cursor = ring_first(reader.lane.ring);
    bool corrupt = false;
    for (size_t i = 0; i < n_packets; i++) {
        const struct ring_view *record = ring_peek(reader.lane.ring, &cursor, &corrupt);
        CHECK(record != NULL);
        CHECK_EQUAL(record->length, VNET_LENGTH + PACKET);
        CHECK_EQUAL(be32_read(record->payload + VNET_LENGTH + 12), PEER_ADDRESS);
    }
    check_record(&cursor);
    CHECK_EQUAL(lane_count_records(&reader.lane), n_packets + 1);
    lane_check_dropped(&reader.lane, reason, n_dropped);
}

static void packets_in_the_middle_of_a_whole_are_delivered_and_it_is_joined(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    for (unsigned i = 1; i < n_pieces(); i += 7) {
        open_joining();
        send_some(256, 0, i);
        datagram_send_good(0, 5000);
        datagram_send_good(0, 5001);
        send_some(256, i, n_pieces());
        datagrams_run();
        check_packets_and_whole(2, NO_DROP, 0);
        datagrams_close();
    }
}

static void two_wholes_in_turns_are_both_joined(void) {
    uint64_t cursor;
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    cursor = ring_first(reader.lane.ring);
    for (unsigned i = 0; i < n_pieces(); i++) {
        send_piece(256, i);
        send_piece(512, n_pieces() - 1 - i);
    }
    datagrams_run();
    check_record(&cursor);
    check_record(&cursor);
    check_joined(2, NO_DROP, 0);
    datagrams_close();
}

/* The counter of the piece that is next, in plain sight. */
static void a_forged_piece_changes_nothing(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    send_some(256, 0, 9);
    for (unsigned i = 7; i < 12; i++) {
        send_piece_under(OTHER_KEY, INDEX, 256, i);
        send_piece_under(OTHER_KEY, INDEX, 256, i);
    }
    send_some(256, 9, n_pieces());
    datagrams_run();
    check_packets_and_whole(0, DROP_link_reader_bad_tag, 10);
    datagrams_close();
}

static void a_piece_that_comes_again_changes_nothing(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    send_some(256, 0, 9);
    send_some(256, 3, 5);
    send_some(256, 9, n_pieces());
    datagrams_run();
    check_packets_and_whole(0, DROP_link_reader_replayed, 2);
    datagrams_close();
}

/* Its counter was the next piece's, so it is opened beside the whole. */
static void a_packet_in_place_of_a_piece_is_delivered(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    uint64_t cursor = ring_first(reader.lane.ring);
    send_some(256, 0, 4);
    datagram_send_good(0, 256 + 4);
    send_some(256, 4, n_pieces());
    send_all(1000);
    datagrams_run();
    bool corrupt = false;
    const struct ring_view *record = ring_peek(reader.lane.ring, &cursor, &corrupt);
    CHECK(record != NULL);
    make_packet(KEY, INDEX, 0);
    CHECK_EQUAL(record->length, VNET_LENGTH + PACKET);
    CHECK_EQUAL(be32_read(record->payload + VNET_LENGTH + 12), PEER_ADDRESS);
    check_record(&cursor);
    lane_check_dropped(&reader.lane, DROP_link_reader_replayed, 1);
    datagrams_close();
}

static void what_a_rate_limit_lets_go_in_the_middle_of_a_whole_does_not_disturb_it(void) {
    make_super(PEER_ADDRESS, 1300, 30 * 1300);
    open_joining();
    CHECK_EQUAL(loop_set_rate_limit(reader.loop, SLOT, PACKET, 0, false), 0);
    for (uint64_t i = 0; i < 4; i++)
        datagram_send_good(0, 5000 + i);
    send_some(256, 0, 9);
    datagrams_run();
    CHECK(lane_count_records(&reader.lane) < 4);
    CHECK_EQUAL(loop_set_rate_limit(reader.loop, SLOT, 0, 0, false), 0);
    send_some(256, 9, n_pieces());
    datagrams_run();
    check_packets_and_whole(4, NO_DROP, 0);
    datagrams_close();
}

int main(void) {
    RUN(packets_in_the_middle_of_a_whole_are_delivered_and_it_is_joined);
    RUN(two_wholes_in_turns_are_both_joined);
    RUN(a_forged_piece_changes_nothing);
    RUN(a_piece_that_comes_again_changes_nothing);
    RUN(a_packet_in_place_of_a_piece_is_delivered);
    RUN(what_a_rate_limit_lets_go_in_the_middle_of_a_whole_does_not_disturb_it);
    RUN(what_is_joined_is_the_devices_in_any_order_of_the_pieces);
    RUN(what_is_joined_is_checked_like_what_comes_whole);
    RUN(a_device_without_super_packets_is_given_none);
    RUN(a_whole_that_lacks_a_piece_is_counted_when_another_takes_its_place);
    RUN(what_waits_for_its_pieces_is_counted_when_its_peer_goes);
    RUN(pieces_of_two_sessions_are_not_joined);
    RUN(a_piece_that_no_sender_makes_is_dropped_and_the_others_are_joined);
    return EXIT_SUCCESS;
}
