/* Pieces: what is joined is what was cut, whatever is lost, comes twice, late or in another order. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "fastun.h"
#include "packet/headers.h"
#include "packet/pieces.h"
#include "packet/vnet.h"
#include "random.h"

enum { N_ROUNDS = 40000 };

/* -- by themselves ----------------------------------------------------------------------------- */

static struct piece_table table;
static uint8_t content[PIECE_ROOM];
static struct piece_result result;
static struct piece_room room; /* in `content`, */
static bool has_room;          /* if wholes may be put together there */
static size_t n_beside;        /* pieces that were opened there */
static struct random noise = {19};

/* A whole that was cut, in a slot of the counters that is its own. */
struct cut {
    uint8_t whole[PIECE_WHOLE_MAX];
    size_t length, slice; /* as headers say: 0 in halves */
    unsigned n;
    uint64_t first;
};

static size_t slice_of(const struct cut *cut) {
    return cut->slice != 0 ? cut->slice : piece_length(cut->length);
}

static void cut_whole(struct cut *cut, struct random *random, uint64_t first, size_t length,
                      size_t slice) {
    *cut = (struct cut){.length = length, .slice = slice, .first = first};
    random_fill(random, cut->whole, length);
    cut->n = (unsigned)((length + slice_of(cut) - 1) / slice_of(cut));
}

static void cut_frame(struct cut *cut, struct random *random, uint64_t first, size_t length) {
    cut_whole(cut, random, first, length, 0);
}

/* What does not open, or is something else: whatever it leaves where it was opened. */
static void open_noise(uint64_t counter, size_t length, uint64_t now_ns) {
    uint8_t *at = piece_expect(&room, 1, counter, length, now_ns);
    if (at != NULL)
        random_fill(&noise, at, length);
    piece_expect_nothing(&room);
}

/* As the link-reader opens a message and takes it. */
static enum piece_end open_and_take(const struct piece_arrival *arrival, const uint8_t *message,
                                    size_t length) {
    uint8_t *at = piece_expect(&room, arrival->session, arrival->counter, length, arrival->now_ns);
    n_beside += at != NULL;
    if (at == NULL) {
        CHECK_EQUAL(piece_room_leave(&room), 0);
        at = content;
    }
    memcpy(at, message, length);
    enum piece_end end = piece_take(&table, has_room ? &room : NULL, arrival, at, length, &result);
    if (end != PIECE_OTHER)
        return end;
    CHECK(at != content);
    CHECK_EQUAL(piece_room_leave(&room), 0);
    memmove(content, at, length);
    return piece_take(&table, &room, arrival, content, length, &result);
}

static enum piece_end take_in(const struct cut *cut, unsigned i, uint64_t now_ns, enum ecn ecn,
                              bool is_padded) {
    static uint8_t message[PIECE_HEADER + PIECE_WHOLE_MAX];
    struct piece_arrival arrival = {1, cut->first + i, now_ns, ecn};
    size_t slice = slice_of(cut), left = cut->length - i * slice;
    size_t own = left < slice ? left : slice;
    piece_write_header(message, i, (uint16_t)cut->first, cut->length, cut->slice);
    memcpy(message + PIECE_HEADER, cut->whole + i * slice, own);
    memset(message + PIECE_HEADER + own, 0, slice - own);
    if (has_room && random_below(&noise, 4) == 0)
        open_noise(cut->first + random_below(&noise, cut->n), 1 + random_below(&noise, slice + 20),
                   now_ns);
    if (has_room && random_below(&noise, 40) == 0)
        CHECK_EQUAL(piece_room_leave(&room), 0);
    enum piece_end end = open_and_take(&arrival, message, PIECE_HEADER + (is_padded ? slice : own));
    if (end == PIECE_JOINED) {
        CHECK_EQUAL(result.length, cut->length);
        CHECK_EQUAL(result.is_super, cut->slice != 0);
        CHECK(result.whole >= content + MESSAGE_TYPE_LENGTH &&
              result.whole + result.length <= content + sizeof content);
        CHECK_EQUAL(memcmp(result.whole, cut->whole, cut->length), 0);
    }
    return end;
}

static enum piece_end take(const struct cut *cut, unsigned i, uint64_t now_ns) {
    return take_in(cut, i, now_ns, ECN_NOT_ECT, true);
}

static void two_halves_are_the_frame_in_either_order_and_of_any_length(void) {
    static struct cut cut;
    struct random random = {7};
    for (size_t length = ETHERNET_HEADER_SIZE; length <= 2 * PIECE_BYTES_MAX; length++)
        for (unsigned first = 0; first < 2; first++) {
            cut_frame(&cut, &random, 4 * length + 2 * first, length);
            CHECK_EQUAL(take(&cut, first, 1000), PIECE_KEPT);
            CHECK_EQUAL(result.lost_length, 0);
            CHECK_EQUAL(take(&cut, 1 - first, 1000), PIECE_JOINED);
            CHECK_EQUAL(result.lost_length, 0);
        }
}

static void shuffle(unsigned *order, unsigned n, struct random *random) {
    for (unsigned i = 0; i < n; i++)
        order[i] = i;
    for (unsigned i = n; i > 1; i--) {
        unsigned j = (unsigned)random_below(random, i), kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

static void a_super_packet_is_whole_again_in_any_order_and_of_any_length(void) {
    static struct cut cut;
    struct random random = {17};
    unsigned order[PIECES_MAX];
    uint64_t counter = 0x1fff0; /* across the end of the id's 16 bits */
    pieces_forget(&table, &room);
    for (int round = 0; round < 600; round++) {
        size_t length = round % 2 != 0 ? 32 + random_below(&random, 65504)
                                       : 32 + random_below(&random, PIECE_SHORT_MAX);
        size_t least = (length + PIECES_MAX - 1) / PIECES_MAX;
        cut_whole(&cut, &random, counter, length, least + random_below(&random, 1500));
        counter += cut.n;
        shuffle(order, cut.n, &random);
        for (unsigned i = 0; i < cut.n; i++) {
            enum piece_end end = take_in(&cut, order[i], 1000, ECN_NOT_ECT, round % 3 == 0);
            CHECK_EQUAL(end, i == cut.n - 1 ? PIECE_JOINED : PIECE_KEPT);
            CHECK_EQUAL(result.lost_length, 0);
        }
    }
}

/* RFC 3168 5.3, as for fragments. */
static void a_mark_on_any_piece_is_the_wholes(void) {
    static struct cut cut;
    struct random random = {8};
    for (unsigned marked = 0; marked < 8; marked++) {
        cut_whole(&cut, &random, 3 * marked, 3000, 1000);
        for (unsigned i = 0; i < 3; i++) {
            enum ecn ecn = (marked >> i & 1) != 0 ? ECN_CE : ECN_ECT_0;
            CHECK_EQUAL(take_in(&cut, i, 1000, ecn, true), i == 2 ? PIECE_JOINED : PIECE_KEPT);
        }
        CHECK_EQUAL(result.ecn, marked > 0 ? ECN_CE : ECN_ECT_0);
    }
}

/* -- against a list of what has come ----------------------------------------------------------- */

enum { N_CUTS = 24 };

static struct cut cuts[N_CUTS];

/* What is in a place. */
struct waiting {
    int cut; /* -1: nothing */
    uint64_t came_ns;
    bool has[PIECES_MAX];
};

static bool is_waiting(const struct waiting *waiting, int cut, uint64_t now_ns) {
    return waiting->cut == cut && now_ns < waiting->came_ns + PIECE_WAIT_NS;
}

static struct waiting *place_of(struct waiting *places, struct waiting *long_places, int i,
                                uint64_t now_ns) {
    if (cuts[i].length <= PIECE_SHORT_MAX)
        return &places[cuts[i].first / 2 % PIECE_PLACES];
    for (int k = 0; k < PIECE_PLACES_LONG; k++)
        if (is_waiting(&long_places[k], i, now_ns))
            return &long_places[k];
    bool is_second = (long_places[1].cut < 0 ? 0 : long_places[1].came_ns) <
                     (long_places[0].cut < 0 ? 0 : long_places[0].came_ns);
    return &long_places[is_second];
}

static bool has_all(const struct waiting *waiting, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (!waiting->has[i])
            return false;
    return true;
}

/* A piece comes twice only from a peer that disobeys: it is refused, and the others go on. */
static enum piece_end expect(struct waiting *waiting, int cut, unsigned index, uint64_t now_ns,
                             size_t *lost) {
    *lost = 0;
    if (!is_waiting(waiting, cut, now_ns)) {
        *lost = waiting->cut >= 0 ? cuts[waiting->cut].length : 0;
        *waiting = (struct waiting){.cut = cut, .came_ns = now_ns};
    }
    if (waiting->has[index])
        return PIECE_BAD;
    waiting->has[index] = true;
    if (!has_all(waiting, cuts[cut].n))
        return PIECE_KEPT;
    waiting->cut = -1;
    return PIECE_JOINED;
}

static void make_cuts(struct random *random) {
    for (int i = 0; i < N_CUTS; i++) {
        uint64_t first = 1000 + 200 * (uint64_t)i;
        if (i % 3 == 0)
            cut_frame(&cuts[i], random, first, 14 + random_below(random, 3000));
        else if (i % 3 == 1)
            cut_whole(&cuts[i], random, first, 40 + random_below(random, 3000),
                      700 + random_below(random, 800));
        else
            cut_whole(&cuts[i], random, first, 4000 + random_below(random, 3000), 1400);
    }
}

static void what_is_joined_is_what_was_cut_whatever_becomes_of_the_pieces(void) {
    static struct waiting places[PIECE_PLACES], long_places[PIECE_PLACES_LONG];
    struct random random = {9};
    uint64_t now_ns = 1000;
    size_t n_joined = 0, n_long = 0, lost;
    pieces_forget(&table, &room);
    make_cuts(&random);
    for (int i = 0; i < PIECE_PLACES; i++)
        places[i].cut = -1;
    for (int i = 0; i < PIECE_PLACES_LONG; i++)
        long_places[i].cut = -1;
    for (int round = 0; round < N_ROUNDS; round++) {
        /* Some at a time, so that there are wholes. */
        int i = (int)(((unsigned)round / 200 + random_below(&random, 4)) % N_CUTS);
        unsigned index = (unsigned)random_below(&random, cuts[i].n);
        now_ns += 1 + random_below(&random, random_below(&random, 20) == 0 ? 700000000 : 3000000);
        struct waiting *waiting = place_of(places, long_places, i, now_ns);
        enum piece_end expected = expect(waiting, i, index, now_ns, &lost);
        CHECK_EQUAL(take(&cuts[i], index, now_ns), expected);
        CHECK_EQUAL(result.lost_length, lost);
        n_joined += expected == PIECE_JOINED;
        n_long += expected == PIECE_JOINED && cuts[i].length > PIECE_SHORT_MAX;
    }
    CHECK(n_joined > 1000);
    CHECK(n_long > 100);
}

/* -- what no sender makes ---------------------------------------------------------------------- */

static enum piece_end take_header(uint64_t counter, unsigned index, unsigned id, size_t length,
                                  size_t slice, size_t n_bytes) {
    struct piece_arrival arrival = {1, counter, 1000, ECN_NOT_ECT};
    piece_write_header(content, index, (uint16_t)id, length, slice);
    return piece_take(&table, NULL, &arrival, content, PIECE_HEADER + n_bytes, &result);
}

static void a_header_that_no_sender_makes_is_refused(void) {
    for (unsigned frame = 0; frame < 65536; frame++) /* in halves */
        if (frame < ETHERNET_HEADER_SIZE || piece_length(frame) > PIECE_BYTES_MAX)
            CHECK_EQUAL(take_header(41, 1, 40, frame, 0, piece_length(frame)), PIECE_BAD);
    for (unsigned whole = 0; whole < VNET_LENGTH + 20; whole++)
        CHECK_EQUAL(take_header(40, 0, 40, whole, 1000, whole), PIECE_BAD);
    for (unsigned index = 2; index < 256; index++) {
        CHECK_EQUAL(take_header(1000 + index, index, 1000, 1500, 0, 750), PIECE_BAD);
        CHECK_EQUAL(take_header(1000 + index, index, 1000, 2000, 1000, 1000), PIECE_BAD);
    }
    CHECK_EQUAL(take_header(40, 0, 40, 65535, 65535 / (PIECES_MAX + 1), 508), PIECE_BAD);
    CHECK_EQUAL(take_header(40, 0, 41, 2000, 1000, 1000), PIECE_BAD); /* the counter's is 40 */
    CHECK_EQUAL(take_header(3, 4, 0xffff, 60000, 1000, 1000), PIECE_BAD);
    for (size_t n = 0; n < 3000; n++)
        CHECK_EQUAL(take_header(41, 1, 40, 2500, 1000, n) == PIECE_BAD, n != 1000);
    pieces_forget(&table, &room);
    for (size_t n = 0; n < 3000; n++) {
        bool fits = n >= 500 && n <= 1000; /* the last one, filled up or not */
        CHECK_EQUAL(take_header(42 + 2 * n, 2, 40 + 2 * (unsigned)n, 2500, 1000, n) == PIECE_BAD,
                    !fits);
    }
}

/* Not with another length either, nor with the same counters in another session. */
static void what_is_refused_disturbs_nothing(void) {
    static struct cut cut;
    struct random random = {3};
    struct piece_arrival other = {2, 41, 1000, ECN_NOT_ECT};
    pieces_forget(&table, &room);
    cut_frame(&cut, &random, 40, 1000);
    CHECK_EQUAL(take(&cut, 0, 1000), PIECE_KEPT);
    a_header_that_no_sender_makes_is_refused();
    pieces_forget(&table, &room);
    CHECK_EQUAL(take(&cut, 0, 1000), PIECE_KEPT);
    CHECK_EQUAL(take(&cut, 0, 1000), PIECE_BAD);
    CHECK_EQUAL(take_header(42, 2, 40, 1000, 0, 500), PIECE_BAD);
    CHECK_EQUAL(take(&cut, 1, 1000), PIECE_JOINED);
    CHECK_EQUAL(take(&cut, 0, 1000), PIECE_KEPT);
    piece_write_header(content, 1, 40, 1000, 0);
    CHECK_EQUAL(piece_take(&table, NULL, &other, content, PIECE_HEADER + 500, &result), PIECE_KEPT);
    CHECK_EQUAL(result.lost_length, 1000);
}

/* -- in the room where messages are opened ----------------------------------------------------- */

static void begin_in_the_room(struct cut *cut, uint64_t first) {
    pieces_forget(&table, &room);
    cut_whole(cut, &noise, first, 10000, 1000);
    has_room = true;
    CHECK_EQUAL(take(cut, 0, 1000), PIECE_KEPT);
}

static void in_the_room_the_same_is_joined(void) {
    has_room = true;
    n_beside = 0;
    pieces_forget(&table, &room);
    two_halves_are_the_frame_in_either_order_and_of_any_length();
    CHECK_EQUAL(n_beside, 0);
    a_super_packet_is_whole_again_in_any_order_and_of_any_length();
    a_mark_on_any_piece_is_the_wholes();
    what_is_joined_is_what_was_cut_whatever_becomes_of_the_pieces();
    CHECK(n_beside > 5000);
    has_room = false;
}

static void a_message_is_opened_beside_a_whole_only_as_a_piece_of_it(void) {
    static struct cut cut;
    begin_in_the_room(&cut, 40);
    CHECK(piece_expect(&room, 2, 41, PIECE_HEADER + 1000, 1000) == NULL); /* another session */
    CHECK(piece_expect(&room, 1, 39, PIECE_HEADER + 1000, 1000) == NULL);
    CHECK(piece_expect(&room, 1, 40, PIECE_HEADER + 1000, 1000) == NULL); /* it is there */
    CHECK(piece_expect(&room, 1, 50, PIECE_HEADER + 1000, 1000) == NULL); /* behind the last */
    CHECK(piece_expect(&room, 1, UINT64_MAX, PIECE_HEADER + 1000, 1000) == NULL);
    CHECK(piece_expect(&room, 1, 41, PIECE_HEADER + 1001, 1000) == NULL);
    CHECK(piece_expect(&room, 1, 41, PIECE_HEADER, 1000) == NULL);
    CHECK(piece_expect(&room, 1, 41, PIECE_HEADER + 1000, 1000 + PIECE_WAIT_NS) == NULL);
    CHECK(piece_expect(&room, 1, 49, PIECE_HEADER + 1000, 1000) == content + 9 * 1000);
    piece_expect_nothing(&room);
    has_room = false;
}

/* Neither what does not open there nor what is something else. */
static void what_is_opened_beside_a_whole_does_not_change_it(void) {
    static struct cut cut;
    static uint8_t other[PIECE_HEADER + 1000];
    static const struct piece_arrival arrival = {1, 42, 1000, ECN_NOT_ECT};
    for (unsigned kind = 0; kind < 3; kind++) {
        begin_in_the_room(&cut, 40);
        CHECK_EQUAL(take(&cut, 1, 1000), PIECE_KEPT);
        random_fill(&noise, other, sizeof other);
        piece_write_header(other, 2, 40, kind == 0 ? 9000 : 10000, kind == 1 ? 1100 : 1000);
        other[0] = kind == 2 ? MESSAGE_CONTROL : MESSAGE_PIECE;
        open_noise(42, PIECE_HEADER + 1000, 1000);
        if (kind < 2)
            CHECK(open_and_take(&arrival, other, sizeof other - (kind == 1)) != PIECE_JOINED);
        CHECK(kind == 2 || memcmp(content, other, PIECE_HEADER) == 0);
        for (unsigned i = 2; i < cut.n; i++)
            CHECK_EQUAL(take(&cut, i, 1000), i == cut.n - 1 ? PIECE_JOINED : PIECE_KEPT);
    }
    has_room = false;
}

static void a_whole_in_the_room_is_forgotten_with_its_table(void) {
    static struct cut cut;
    static struct piece_table other;
    begin_in_the_room(&cut, 40);
    CHECK_EQUAL(pieces_forget(&other, &room).n_wholes, 0);
    CHECK(room.place != NULL);
    struct pieces_lost lost = pieces_forget(&table, &room);
    CHECK(lost.n_wholes == 1 && lost.n_bytes == 10000);
    CHECK(piece_expect(&room, 1, 41, PIECE_HEADER + 1000, 1000) == NULL);
    has_room = false;
}

static void what_has_not_come_is_not_moved_out_of_the_room(void) {
    static struct cut cut;
    begin_in_the_room(&cut, 40);
    table.long_bytes = calloc(PIECE_PLACES_LONG, PIECE_WHOLE_MAX);
    memset(content + PIECE_HEADER + 1000, 7, 9000);
    CHECK_EQUAL(piece_room_leave(&room), 0);
    CHECK(memchr(table.long_bytes + 1000, 7, 9000) == NULL);
    has_room = false;
}

int main(void) {
    RUN(two_halves_are_the_frame_in_either_order_and_of_any_length);
    RUN(a_super_packet_is_whole_again_in_any_order_and_of_any_length);
    RUN(a_mark_on_any_piece_is_the_wholes);
    RUN(what_is_joined_is_what_was_cut_whatever_becomes_of_the_pieces);
    RUN(in_the_room_the_same_is_joined);
    RUN(a_message_is_opened_beside_a_whole_only_as_a_piece_of_it);
    RUN(what_is_opened_beside_a_whole_does_not_change_it);
    RUN(a_whole_in_the_room_is_forgotten_with_its_table);
    RUN(what_has_not_come_is_not_moved_out_of_the_room);
    RUN(a_header_that_no_sender_makes_is_refused);
    RUN(what_is_refused_disturbs_nothing);
    return EXIT_SUCCESS;
}
