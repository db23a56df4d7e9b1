/* Frames in two pieces: what is joined is what was cut, whatever is lost, comes twice, late or in
 * another order; and the tun-reader's pieces of frames and super-packets, joined again. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "frames.h"
#include "packet/pieces.h"
#include "packet/gso.h"
#include "random.h"
#include "sender.h"

static enum ecn ecn; /* of the outer headers */

enum {
    N_ROUNDS = 20000,
    FRAME_MAX = 2 * PIECE_BYTES_MAX,
    SLOT = 3,
    PATH = 1400,
    CONTENT_MAX = PIECE_HEADER + PIECE_BYTES_MAX,
};

/* -- by themselves ----------------------------------------------------------------------------- */

static struct piece_table table;
static uint8_t content[2 * CONTENT_MAX];

struct cut {
    uint8_t pieces[2][CONTENT_MAX];
    uint8_t frame[FRAME_MAX];
    size_t length;
};

static void cut_frame(struct cut *cut, struct random *random, uint16_t id, size_t length) {
    size_t half = piece_length(length);
    cut->length = length;
    memset(cut->pieces, 0, sizeof cut->pieces);
    random_fill(random, cut->frame, length);
    for (unsigned i = 0; i < 2; i++) {
        piece_write_header(cut->pieces[i], i, id, length);
        memcpy(cut->pieces[i] + PIECE_HEADER, cut->frame + i * half, i == 0 ? half : length - half);
    }
}

static enum piece_end take(const struct cut *cut, unsigned i, uint64_t now_ns, bool *has_lost) {
    size_t length;
    memcpy(content, cut->pieces[i], CONTENT_MAX);
    enum piece_end end = piece_take(&table, content, PIECE_HEADER + piece_length(cut->length),
                                    now_ns, &length, has_lost, &ecn);
    if (end == PIECE_JOINED) {
        CHECK_EQUAL(length, cut->length);
        CHECK_EQUAL(memcmp(content + MESSAGE_TYPE_LENGTH, cut->frame, length), 0);
    }
    return end;
}

static void two_halves_are_the_frame_in_either_order_and_of_any_length(void) {
    struct random random = {7};
    struct cut cut;
    bool has_lost;
    for (size_t length = ETHERNET_HEADER_SIZE; length <= FRAME_MAX; length++)
        for (unsigned first = 0; first < 2; first++) {
            cut_frame(&cut, &random, (uint16_t)length, length);
            CHECK_EQUAL(take(&cut, first, 1000, &has_lost), PIECE_KEPT);
            CHECK(!has_lost);
            CHECK_EQUAL(take(&cut, 1 - first, 1000, &has_lost), PIECE_JOINED);
            CHECK(!has_lost);
        }
}

/* RFC 3168 5.3, as for fragments. */
static void a_mark_on_either_half_is_the_frames(void) {
    struct random random = {8};
    struct cut cut;
    bool has_lost;
    cut_frame(&cut, &random, 4, 1000);
    for (unsigned marked = 0; marked < 4; marked++) {
        ecn = (marked & 1) != 0 ? ECN_CE : ECN_ECT_0;
        CHECK_EQUAL(take(&cut, 0, 1000, &has_lost), PIECE_KEPT);
        ecn = (marked & 2) != 0 ? ECN_CE : ECN_ECT_0;
        CHECK_EQUAL(take(&cut, 1, 1000, &has_lost), PIECE_JOINED);
        CHECK_EQUAL(ecn, marked > 0 ? ECN_CE : ECN_ECT_0);
    }
    ecn = ECN_NOT_ECT;
}

/* A list of the halves that wait says what happens to the next. */
static void what_is_joined_is_what_was_cut_whatever_becomes_of_the_pieces(void) {
    enum { N_CUTS = 24 };
    static struct cut cuts[N_CUTS];
    struct random random = {9};
    struct {
        int cut, index;
        uint64_t came_ns;
    } waiting[PIECE_PLACES];
    uint64_t now_ns = 1000;
    size_t n_joined = 0;
    pieces_forget(&table);
    memset(waiting, 0xff, sizeof waiting);
    for (int i = 0; i < N_CUTS; i++)
        cut_frame(&cuts[i], &random, (uint16_t)(2 * i), 14 + random_below(&random, 3000));
    for (int round = 0; round < N_ROUNDS; round++) {
        int i = (int)random_below(&random, N_CUTS), place = i % PIECE_PLACES;
        int index = (int)random_below(&random, 2);
        bool has_lost;
        now_ns += random_below(&random, 300000000);
        bool joins = waiting[place].cut == i && waiting[place].index == 1 - index &&
                     now_ns < waiting[place].came_ns + PIECE_WAIT_NS;
        CHECK_EQUAL(take(&cuts[i], (unsigned)index, now_ns, &has_lost),
                    joins ? PIECE_JOINED : PIECE_KEPT);
        CHECK_EQUAL(has_lost, !joins && waiting[place].cut >= 0);
        waiting[place].cut = joins ? -1 : i;
        waiting[place].index = index;
        waiting[place].came_ns = now_ns;
        n_joined += joins;
    }
    CHECK(n_joined > 1000);
}

static void what_no_sender_makes_is_refused_and_disturbs_nothing(void) {
    struct random random = {3};
    struct cut cut;
    size_t length;
    bool has_lost;
    pieces_forget(&table);
    cut_frame(&cut, &random, 40, 1000);
    take(&cut, 0, 1000, &has_lost);
    for (size_t n = 0; n < 2 * CONTENT_MAX; n++) {
        if (n == PIECE_HEADER + 500)
            continue;
        memcpy(content, cut.pieces[1], CONTENT_MAX);
        CHECK_EQUAL(piece_take(&table, content, n, 1000, &length, &has_lost, &ecn), PIECE_BAD);
    }
    memcpy(content, cut.pieces[1], CONTENT_MAX);
    content[1] = 2;
    CHECK_EQUAL(piece_take(&table, content, PIECE_HEADER + 500, 1000, &length, &has_lost, &ecn),
                PIECE_BAD);
    for (unsigned frame = 0; frame < 65536; frame++) {
        piece_write_header(content, 1, 40, frame);
        if (frame < ETHERNET_HEADER_SIZE || piece_length(frame) > PIECE_BYTES_MAX)
            CHECK_EQUAL(piece_take(&table, content, PIECE_HEADER + piece_length(frame), 1000,
                                   &length, &has_lost, &ecn),
                        PIECE_BAD);
    }
    CHECK_EQUAL(take(&cut, 1, 1000, &has_lost), PIECE_JOINED);
}

/* -- from the tun-reader ----------------------------------------------------------------------- */

static struct frame frame;

static void open_path(bool joins) {
    struct link_format format = datagram_format(0);
    format.mode = MODE_TAP;
    format.joins_pieces = joins;
    sender_open(MODE_TAP);
    sender_attach(SLOT, format);
    set_key(SLOT, AEAD_AES_256_GCM, 0);
    loop_set_packet_max(sender.worker.loop, SLOT, PATH, 0);
    pieces_forget(&table);
}

/* The next datagram of the record at `at`; the frame that it completes lies in opened.content. */
static size_t open_datagram(size_t at, bool *is_frame) {
    size_t n =
        opened.record->segment == SEGMENT_WHOLE ? opened.record->length : opened.record->segment;
    size_t left = opened.record->length - at, length;
    bool has_lost;
    n = n < left ? n : left;
    open_message(AEAD_AES_256_GCM, true, opened.record->payload + at, n);
    *is_frame = opened.content[0] == MESSAGE_ETHERNET;
    if (*is_frame)
        return n;
    enum piece_end end =
        piece_take(&table, opened.content, (size_t)opened.length, 1000, &length, &has_lost, &ecn);
    CHECK(end != PIECE_BAD && !has_lost);
    *is_frame = end == PIECE_JOINED;
    opened.length = (int)(MESSAGE_TYPE_LENGTH + length);
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
    RUN(two_halves_are_the_frame_in_either_order_and_of_any_length);
    RUN(a_mark_on_either_half_is_the_frames);
    RUN(what_is_joined_is_what_was_cut_whatever_becomes_of_the_pieces);
    RUN(what_no_sender_makes_is_refused_and_disturbs_nothing);
    RUN(a_frame_longer_than_the_path_goes_in_two_datagrams_of_one_length);
    RUN(super_packets_go_in_pieces_and_their_last_segment_by_itself);
    RUN(tcp_is_cut_shorter_where_its_identifications_say_nothing);
    RUN(to_a_peer_that_joins_none_and_what_is_too_long_for_two_goes_in_fragments);
    return EXIT_SUCCESS;
}
