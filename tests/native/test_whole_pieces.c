/* Super-packets for a peer that joins pieces: what the tun-reader puts into its ring is joined to the
 * very frame, whatever the path, and goes in segments where it has to. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "worker/key_commands.h"
#include "outbound/splitting.h"
#include "packet/byteorder.h"
#include "packet/pieces.h"
#include "sender.h"
#include "super_packet.h"

enum { ROUNDS = 150, SLOT = 3, PATH = 1420, MSS = 1368 };

static struct piece_table table;
static struct super_packet given;
static struct random noise = {5};
static enum aead aead;
static size_t n_pieces, n_packets, n_bytes;
static bool is_last_given = true; /* and what is joined is that */

static void open_peer(enum mode mode, enum aead cipher, size_t path) {
    struct link_format format = datagram_format(PATH);
    format.mode = mode;
    format.joins_pieces = JOINS_SUPER_PACKETS | (mode == MODE_TAP ? JOINS_FRAMES : 0);
    aead = cipher;
    sender_open(mode);
    sender_attach(SLOT, format);
    set_key(SLOT, aead, 0);
    if (mode == MODE_TUN)
        sender_allow_ten(SLOT);
    loop_set_packet_max(sender.worker.loop, SLOT, path, 0);
    pieces_forget(&table, NULL);
}

static void give_super(const struct super_packet_shape *shape, uint32_t sequence) {
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    super_packet_make(&given, &noise, shape);
    if (sequence != 0)
        be32_write(given.bytes + given.transport + 4, sequence);
    if (sequence != 0)
        be32_write(given.bytes + given.transport, 0x12345678);
    super_packet_leave_sum(&given);
    vnet_write(&given.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, given.bytes, given.length);
    give_frame(bytes, VNET_LENGTH + given.length);
}

static bool is_given(const uint8_t *whole, size_t length) {
    static uint8_t vnet[VNET_LENGTH];
    vnet_write(&given.vnet, vnet);
    return length == VNET_LENGTH + given.length && memcmp(whole, vnet, VNET_LENGTH) == 0 &&
           memcmp(whole + VNET_LENGTH, given.bytes, given.length) == 0;
}

/* Opens what the ring has. Returns how many wholes were joined. */
static int take_wholes(unsigned session) {
    bool corrupt = false;
    int n = 0;
    struct piece_result result;
    while ((opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL) {
        n_packets += opened.record->n_packets;
        n_bytes += opened.record->n_bytes;
        CHECK(opened.record->length <= TRAIN_BYTES_MAX);
        for (size_t at = 0; at < opened.record->length;) {
            size_t left = opened.record->length - at, segment = opened.record->segment;
            size_t length = segment != 0 && segment < left ? segment : left;
            at += open_message(aead, true, opened.record->payload + at, length);
            struct piece_arrival arrival = {session, opened.counter, 1000, ECN_NOT_ECT};
            if (opened.content[0] != MESSAGE_PIECE)
                continue;
            n_pieces++;
            CHECK(opened.length <= PATH);
            enum piece_end end =
                piece_take(&table, NULL, &arrival, opened.content, (size_t)opened.length, &result);
            CHECK(end != PIECE_BAD);
            n += end == PIECE_JOINED;
            CHECK(end != PIECE_JOINED || !is_last_given ||
                  is_given(opened.content + 4, result.length));
        }
    }
    sender_release();
    return n;
}

static struct super_packet_shape tcp(enum mode mode, size_t payload) {
    struct super_packet_shape shape = {.version = random_below(&noise, 2) == 0 ? 4 : 6,
                                       .is_tap = mode == MODE_TAP,
                                       .tcp_options = 12,
                                       .tcp_flags = SUPER_PACKET_ACK,
                                       .size = 1270 - random_below(&noise, 900),
                                       .payload = payload};
    return shape;
}

static void check_wholes(enum mode mode, enum aead cipher, size_t path) {
    open_peer(mode, cipher, path);
    size_t n_given = 0, n_given_bytes = 0;
    n_packets = n_bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct super_packet_shape shape = tcp(mode, 2000 + random_below(&noise, 62000));
        give_super(&shape, 0);
        sender_run();
        CHECK_EQUAL(take_wholes(1), 1);
        n_given += super_packet_n_segments(&given);
        n_given_bytes += given.length;
        CHECK_EQUAL(n_packets, n_given);
    }
    CHECK(n_bytes <= n_given_bytes && n_bytes + 3 * (size_t)ROUNDS >= n_given_bytes);
    CHECK_EQUAL(sender_counter(COUNTER_packets), n_given);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void a_super_packet_is_joined_to_the_very_frame_that_was_given(void) {
    check_wholes(MODE_TUN, AEAD_AES_256_GCM, PATH);
    check_wholes(MODE_TUN, AEAD_CHACHA20_POLY1305, 1352);
    check_wholes(MODE_TAP, AEAD_AES_256_GCM, PATH);
}

/* Of a device of 1500 bytes: the path takes fewer, and cut to it there would be more segments. */
static void a_tap_devices_segments_may_be_too_long_for_the_path(void) {
    size_t n_given = 0;
    open_peer(MODE_TAP, AEAD_AES_256_GCM, PATH);
    n_packets = n_pieces = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct super_packet_shape shape = tcp(MODE_TAP, 2 * 1448 + random_below(&noise, 62000));
        shape.size = 1448;
        give_super(&shape, 0);
        sender_run();
        CHECK_EQUAL(take_wholes(1), 1);
        n_given += super_packet_n_segments(&given);
        CHECK_EQUAL(n_packets, n_given);
    }
    CHECK(n_pieces >= n_given && n_pieces < n_given + 2 * (size_t)ROUNDS);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

/* -- what is split ----------------------------------------------------------------------------- */

/* How many pieces a super-packet of TCP with this sequence number makes. */
static size_t pieces_of(uint32_t sequence, size_t payload) {
    struct super_packet_shape shape = {
        .version = 4, .tcp_options = 12, .size = MSS, .payload = payload};
    n_pieces = 0;
    give_super(&shape, sequence);
    sender_run();
    take_wholes(1);
    return n_pieces;
}

static void what_pieces_do_not_suit_is_split(void) {
    struct super_packet_shape udp = {.version = 4, .is_udp = true, .size = 1200, .payload = 30000};
    struct super_packet_shape small = {.version = 4, .size = 60, .payload = 6000};
    open_peer(MODE_TUN, AEAD_AES_256_GCM, PATH);
    n_pieces = 0;
    give_super(&udp, 0);
    give_super(&small, 0); /* would be cut to more than twice its bytes on the other side */
    sender_run();
    take_wholes(1);
    CHECK_EQUAL(n_pieces, 0);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 25 + 100);
    loop_join_pieces(sender.worker.loop, SLOT, JOINS_FRAMES);
    CHECK_EQUAL(pieces_of(1, 30 * MSS), 0);
    loop_join_pieces(sender.worker.loop, SLOT, JOINS_SUPER_PACKETS);
    CHECK_EQUAL(pieces_of(1, 30 * MSS), 30);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

/* Its sender learns the MTU that fits, as without pieces. */
static void segments_that_do_not_fit_the_path_are_answered(void) {
    open_peer(MODE_TUN, AEAD_AES_256_GCM, MSS);
    CHECK_EQUAL(pieces_of(1, 30 * MSS), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu) +
                    sender_dropped(DROP_tun_reader_exceeds_path_mtu_unanswered),
                sender_counter(COUNTER_packets));
    sender_close();
}

static void a_flow_that_sends_again_is_split_for_a_while(void) {
    open_peer(MODE_TUN, AEAD_AES_256_GCM, PATH);
    uint32_t at = UINT32_MAX - 40 * MSS; /* sequence numbers wrap */
    CHECK(pieces_of(at, 30 * MSS) > 0);
    CHECK(pieces_of(at + 30 * MSS, 30 * MSS) > 0);
    CHECK_EQUAL(pieces_of(at + 30 * MSS, 30 * MSS), 0);
    CHECK_EQUAL(pieces_of(at + 60 * MSS, 30 * MSS), 0);
    sender_close();
}

/* -- flows by themselves ----------------------------------------------------------------------- */

static bool may(struct piece_flows *flows, uint32_t sequence, uint64_t now_s) {
    struct super_packet_shape shape = {.version = 6, .size = MSS, .payload = 10 * MSS};
    struct gso_split split;
    noise.state = 1; /* the same addresses and ports each time */
    super_packet_make(&given, &noise, &shape);
    be32_write(given.bytes + given.transport + 4, sequence);
    super_packet_leave_sum(&given);
    CHECK(vnet_check(&given.vnet, given.bytes, given.length, 0) > 0);
    gso_split_begin(&split, &given.vnet, given.bytes, given.length);
    return piece_flows_may(flows, SLOT, &split, now_s * 1000000000);
}

static void after_each_loss_a_flow_is_split_for_twice_as_long(void) {
    static struct piece_flows flows;
    uint32_t sequence = 1000;
    uint64_t now_s = 1000;
    for (int loss = 0; loss < 6; loss++) {
        uint64_t split_s = (uint64_t)4 << (loss < PIECE_LOSSES_MAX ? loss : PIECE_LOSSES_MAX);
        CHECK(may(&flows, sequence, now_s));
        CHECK(!may(&flows, sequence, now_s));     /* again */
        CHECK(!may(&flows, sequence, now_s + 1)); /* one loss has many that follow */
        sequence += 10 * MSS;
        CHECK(!may(&flows, sequence, now_s + split_s - 1));
        now_s += split_s;
        sequence += 10 * MSS;
    }
    now_s += 64 + 120;
    CHECK(may(&flows, sequence, now_s));
    CHECK(!may(&flows, sequence, now_s));
    CHECK(may(&flows, sequence + 10 * MSS, now_s + 4));
}

/* -- a key in between -------------------------------------------------------------------------- */

static void give_tcp(size_t n_segments) {
    struct super_packet_shape shape = {
        .version = 4, .tcp_options = 12, .size = MSS, .payload = n_segments * MSS};
    give_super(&shape, 0);
}

/* Super-packets, of which the last is half in the ring, which is full. Returns how many packets. */
static size_t fill_ring(int *n_given) {
    struct splitting *splitting = tun_reader_of(sender.worker.loop)->splitting;
    size_t n = 0;
    *n_given = 0;
    for (; SENDER_RING_BYTES - ring_used_bytes(sender.lane.ring) > 130000; ++*n_given) {
        give_tcp(20);
        sender_run();
        n += 20;
    }
    give_packet(0x0a000002); /* begins another train */
    give_tcp(47);            /* more than a train */
    sender_run();
    CHECK(splitting_is_underway(splitting) && splitting->is_whole && splitting->next > 0);
    return n + 1 + 47;
}

static void pieces_of_one_whole_are_sealed_under_one_key(void) {
    int n_given;
    open_peer(MODE_TUN, AEAD_AES_256_GCM, PATH);
    n_packets = 0;
    is_last_given = false;
    size_t n = fill_ring(&n_given);
    CHECK_EQUAL(take_wholes(1), n_given);
    set_session(SLOT, AEAD_AES_256_GCM, 1, 0, UINT64_MAX);
    is_last_given = true;
    sender_run();
    CHECK_EQUAL(take_wholes(2), 1);
    CHECK_EQUAL(n_packets, n);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void what_is_left_of_a_whole_whose_key_has_gone_is_counted(void) {
    int n_given;
    open_peer(MODE_TUN, AEAD_AES_256_GCM, PATH);
    n_packets = 0;
    is_last_given = false;
    size_t n = fill_ring(&n_given);
    take_wholes(1);
    loop_forget_sending_key(sender.worker.loop, SLOT);
    sender_run();
    take_wholes(1);
    CHECK(sender_dropped(DROP_tun_reader_no_session) > 0);
    CHECK_EQUAL(n_packets + sender_dropped(DROP_tun_reader_no_session), n);
    sender_close();
}

int main(void) {
    RUN(a_super_packet_is_joined_to_the_very_frame_that_was_given);
    RUN(what_pieces_do_not_suit_is_split);
    RUN(segments_that_do_not_fit_the_path_are_answered);
    RUN(a_flow_that_sends_again_is_split_for_a_while);
    RUN(after_each_loss_a_flow_is_split_for_twice_as_long);
    RUN(pieces_of_one_whole_are_sealed_under_one_key);
    RUN(what_is_left_of_a_whole_whose_key_has_gone_is_counted);
    RUN(a_tap_devices_segments_may_be_too_long_for_the_path);
    return EXIT_SUCCESS;
}
