#include "packet/pieces.h"

#include <stdlib.h>
#include <string.h>

#include "fastun.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "packet/vnet.h"

enum { INDEX_OFFSET = 1, ID_OFFSET = 2, WHOLE_OFFSET = 4, SLICE_OFFSET = 6 };

struct piece {
    unsigned index, n; /* which it is, of how many */
    uint64_t first;    /* the first one's counter */
    size_t whole, slice;
    bool is_super;
    const uint8_t *bytes;
    size_t length; /* without what fills it up */
};

void piece_write_header(uint8_t header[PIECE_HEADER], unsigned index, uint16_t id, size_t length,
                        size_t slice) {
    header[0] = MESSAGE_PIECE;
    header[INDEX_OFFSET] = (uint8_t)index;
    le16_write(header + ID_OFFSET, id);
    le16_write(header + WHOLE_OFFSET, (uint16_t)length);
    le16_write(header + SLICE_OFFSET, (uint16_t)slice);
}

/* -- what a message says ----------------------------------------------------------------------- */

static size_t whole_min(const struct piece *piece) {
    return piece->is_super ? VNET_LENGTH + IPV4_HEADER_SIZE : ETHERNET_HEADER_SIZE;
}

/* false: no sender makes it. Nothing of it is trusted that is not checked here. The header is copied
 * first: what is in the ring, other workers can change. */
static bool read_piece(struct piece *piece, uint64_t counter, const uint8_t *content,
                       size_t length) {
    uint8_t header[PIECE_HEADER];
    if (length <= PIECE_HEADER)
        return false;
    memcpy(header, content, sizeof header);
    size_t slice = le16_read(header + SLICE_OFFSET);
    *piece = (struct piece){
        .index = header[INDEX_OFFSET],
        .first = counter - header[INDEX_OFFSET],
        .whole = le16_read(header + WHOLE_OFFSET),
        .is_super = slice != 0,
        .bytes = content + PIECE_HEADER,
    };
    piece->slice = piece->is_super ? slice : piece_length(piece->whole);
    if (counter < piece->index || (uint16_t)piece->first != le16_read(header + ID_OFFSET) ||
        piece->whole < whole_min(piece) || (!piece->is_super && piece->slice > PIECE_BYTES_MAX))
        return false;
    piece->n = (unsigned)((piece->whole + piece->slice - 1) / piece->slice);
    if (piece->n > PIECES_MAX || piece->index >= piece->n)
        return false;
    size_t left = piece->whole - piece->index * piece->slice, came = length - PIECE_HEADER;
    piece->length = left < piece->slice ? left : piece->slice;
    return came >= piece->length && came <= piece->slice;
}

/* -- its place --------------------------------------------------------------------------------- */

static bool is_of(const struct piece_place *place, const struct piece *piece,
                  const struct piece_arrival *arrival) {
    return place->came_ns != 0 && place->first == piece->first &&
           place->session == arrival->session && place->whole == piece->whole &&
           place->slice == piece->slice && arrival->now_ns < place->came_ns + PIECE_WAIT_NS;
}

/* Its own, else one that is free, else the oldest. */
static struct piece_place *find_long_place(struct piece_table *table, const struct piece *piece,
                                           const struct piece_arrival *arrival) {
    struct piece_place *found = &table->long_places[0];
    for (int i = 0; i < PIECE_PLACES_LONG; i++) {
        struct piece_place *place = &table->long_places[i];
        if (is_of(place, piece, arrival))
            return place;
        if (place->came_ns < found->came_ns)
            found = place;
    }
    return found;
}

static struct piece_place *find_place(struct piece_table *table, const struct piece *piece,
                                      const struct piece_arrival *arrival) {
    if (piece->whole > PIECE_SHORT_MAX)
        return find_long_place(table, piece, arrival);
    return &table->places[(piece->first >> 1) %
                          PIECE_PLACES]; /* a frame's halves use two counters */
}

/* Where the bytes of what is in the place lie, outside the room. NULL: there is no memory. */
static uint8_t *bytes_of(struct piece_table *table, const struct piece_place *place) {
    if (place < table->long_places || place >= table->long_places + PIECE_PLACES_LONG)
        return table->bytes[place - table->places];
    if (table->long_bytes == NULL)
        table->long_bytes = malloc((size_t)PIECE_PLACES_LONG * PIECE_WHOLE_MAX);
    if (table->long_bytes == NULL)
        return NULL;
    return table->long_bytes + (size_t)(place - table->long_places) * PIECE_WHOLE_MAX;
}

static void begin(struct piece_place *place, const struct piece *piece,
                  const struct piece_arrival *arrival) {
    *place = (struct piece_place){
        .came_ns = arrival->now_ns,
        .session = arrival->session,
        .first = piece->first,
        .whole = (uint16_t)piece->whole,
        .slice = (uint16_t)piece->slice,
        .n_missing = (uint8_t)piece->n,
        .ecn = (uint8_t)arrival->ecn,
    };
}

static bool has(const struct piece_place *place, unsigned index) {
    return (place->has[index / 64] >> index % 64 & 1) != 0;
}

static void mark(struct piece_place *place, unsigned index) {
    place->has[index / 64] |= (uint64_t)1 << index % 64;
    place->n_missing--;
}

/* -- in the room ------------------------------------------------------------------------------- */

static bool fits_room(const struct piece *piece) {
    return piece->whole > PIECE_SHORT_MAX &&
           piece->n * piece->slice <= PIECE_WHOLE_MAX + PIECE_FILL_MAX;
}

static void leave_empty(struct piece_room *room) {
    *room = (struct piece_room){0};
}

uint8_t *piece_expect(struct piece_room *room, uint32_t session, uint64_t counter, size_t length,
                      uint64_t now_ns) {
    const struct piece_place *place = room->place;
    if (place == NULL || session != place->session || counter < place->first ||
        length <= PIECE_HEADER || length - PIECE_HEADER > place->slice ||
        now_ns >= place->came_ns + PIECE_WAIT_NS)
        return NULL;
    uint64_t index = counter - place->first;
    if (index >= PIECES_MAX || index * place->slice >= place->whole || has(place, (unsigned)index))
        return NULL;
    room->expected = room->bytes + index * place->slice - PIECE_HEADER;
    memcpy(room->covered, room->expected, PIECE_HEADER);
    return room->expected;
}

void piece_expect_nothing(struct piece_room *room) {
    if (room->expected != NULL)
        memcpy(room->expected, room->covered, PIECE_HEADER);
    room->expected = NULL;
}

/* No more than has come: a piece of a few bytes costs no copy of a whole. */
static void move_pieces(uint8_t *to, const uint8_t *from, const struct piece_place *place) {
    for (size_t at = 0, index = 0; at < place->whole; at += place->slice, index++) {
        size_t left = place->whole - at;
        if (has(place, (unsigned)index))
            memcpy(to + at, from + at, left < place->slice ? left : place->slice);
    }
}

size_t piece_room_leave(struct piece_room *room) {
    if (room->place == NULL)
        return 0;
    size_t whole = room->place->whole;
    uint8_t *bytes = bytes_of(room->table, room->place);
    if (bytes != NULL)
        move_pieces(bytes, room->bytes, room->place);
    else
        room->place->came_ns = 0;
    if (bytes != NULL && room->expected > room->bytes)
        memcpy(bytes + (room->expected - room->bytes), room->covered, PIECE_HEADER);
    leave_empty(room);
    return bytes != NULL ? 0 : whole;
}

/* -- taking one -------------------------------------------------------------------------------- */

static void begin_in_room(struct piece_room *room, struct piece_table *table,
                          struct piece_place *place, uint8_t *content) {
    room->table = table;
    room->place = place;
    room->bytes = content + PIECE_HEADER;
    room->expected = NULL;
}

/* Copies the piece to where the whole is put together. NULL: there is no memory; else that place. */
static uint8_t *put(struct piece_table *table, struct piece_room *room,
                    const struct piece_place *place, const struct piece *piece) {
    bool is_in_room = room != NULL && room->place == place;
    uint8_t *bytes = is_in_room ? room->bytes : bytes_of(table, place);
    if (bytes == NULL)
        return NULL;
    uint8_t *at = bytes + piece->index * piece->slice;
    if (at != piece->bytes)
        memcpy(at, piece->bytes, piece->length);
    if (is_in_room)
        piece_expect_nothing(room);
    return bytes;
}

/* All of it is there. */
static void join(struct piece_place *place, struct piece_room *room, uint8_t *bytes,
                 uint8_t *content, struct piece_result *result) {
    result->whole = bytes;
    if (room != NULL && room->place == place) {
        leave_empty(room);
    } else {
        result->whole = content + MESSAGE_TYPE_LENGTH;
        memcpy(result->whole, bytes, place->whole);
    }
    place->came_ns = 0;
    result->length = place->whole;
    result->ecn = place->ecn;
}

enum piece_end piece_take(struct piece_table *table, struct piece_room *room,
                          const struct piece_arrival *arrival, uint8_t *content, size_t length,
                          struct piece_result *result) {
    struct piece piece;
    *result = (struct piece_result){0};
    bool is_expected = room != NULL && room->expected != NULL;
    bool is_sound = read_piece(&piece, arrival->counter, content, length);
    if (is_expected && !(is_sound && is_of(room->place, &piece, arrival)))
        return PIECE_OTHER;
    if (!is_sound)
        return PIECE_BAD;
    struct piece_place *place = is_expected ? room->place : find_place(table, &piece, arrival);
    if (!is_of(place, &piece, arrival)) {
        result->lost_length = place->came_ns != 0 ? place->whole : 0;
        begin(place, &piece, arrival);
        if (room != NULL && fits_room(&piece))
            begin_in_room(room, table, place, content);
    }
    if (has(place, piece.index))
        return PIECE_BAD;
    uint8_t *bytes = put(table, room, place, &piece);
    if (bytes == NULL) {
        place->came_ns = 0;
        return PIECE_BAD;
    }
    mark(place, piece.index);
    if (arrival->ecn == ECN_CE)
        place->ecn = ECN_CE;
    if (place->n_missing > 0)
        return PIECE_KEPT;
    result->is_super = piece.is_super;
    join(place, room, bytes, content, result);
    return PIECE_JOINED;
}

/* Memory that was never written to stays untouched. */
static void empty(struct piece_place *places, int n, struct pieces_lost *lost) {
    for (int i = 0; i < n; i++) {
        if (places[i].came_ns == 0)
            continue;
        places[i].came_ns = 0;
        lost->n_wholes++;
        lost->n_bytes += places[i].whole;
    }
}

struct pieces_lost pieces_forget(struct piece_table *table, struct piece_room *room) {
    struct pieces_lost lost = {0, 0};
    if (room != NULL && room->table == table)
        leave_empty(room);
    empty(table->places, PIECE_PLACES, &lost);
    empty(table->long_places, PIECE_PLACES_LONG, &lost);
    if (table->long_bytes == NULL)
        return lost;
    free(table->long_bytes);
    table->long_bytes = NULL;
    return lost;
}
