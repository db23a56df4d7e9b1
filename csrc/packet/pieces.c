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

/* NULL: there is no memory. */
static struct piece_place *find_place(struct piece_table *table, const struct piece *piece,
                                      const struct piece_arrival *arrival, uint8_t **bytes) {
    if (piece->whole <= PIECE_SHORT_MAX) {
        /* A frame's two messages use two counters. */
        int i = (int)((piece->first >> 1) % PIECE_PLACES);
        *bytes = table->bytes[i];
        return &table->places[i];
    }
    if (table->long_bytes == NULL)
        table->long_bytes = malloc((size_t)PIECE_PLACES_LONG * PIECE_WHOLE_MAX);
    if (table->long_bytes == NULL)
        return NULL;
    struct piece_place *place = find_long_place(table, piece, arrival);
    *bytes = table->long_bytes + (size_t)(place - table->long_places) * PIECE_WHOLE_MAX;
    return place;
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

/* false: it is there already. */
static bool mark(struct piece_place *place, unsigned index) {
    uint64_t bit = (uint64_t)1 << index % 64, *marks = &place->has[index / 64];
    if ((*marks & bit) != 0)
        return false;
    *marks |= bit;
    place->n_missing--;
    return true;
}

/* -- taking one -------------------------------------------------------------------------------- */

enum piece_end piece_take(struct piece_table *table, const struct piece_arrival *arrival,
                          uint8_t *content, size_t length, struct piece_result *result) {
    struct piece piece;
    uint8_t *bytes;
    *result = (struct piece_result){0};
    if (!read_piece(&piece, arrival->counter, content, length))
        return PIECE_BAD;
    struct piece_place *place = find_place(table, &piece, arrival, &bytes);
    if (place == NULL)
        return PIECE_BAD;
    if (!is_of(place, &piece, arrival)) {
        result->lost_length = place->came_ns != 0 ? place->whole : 0;
        begin(place, &piece, arrival);
    }
    if (!mark(place, piece.index))
        return PIECE_BAD;
    if (arrival->ecn == ECN_CE)
        place->ecn = ECN_CE;
    memcpy(bytes + piece.index * piece.slice, piece.bytes, piece.length);
    if (place->n_missing > 0)
        return PIECE_KEPT;
    memcpy(content + MESSAGE_TYPE_LENGTH, bytes, piece.whole);
    place->came_ns = 0;
    result->length = piece.whole;
    result->is_super = piece.is_super;
    result->ecn = place->ecn;
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

struct pieces_lost pieces_forget(struct piece_table *table) {
    struct pieces_lost lost = {0, 0};
    empty(table->places, PIECE_PLACES, &lost);
    empty(table->long_places, PIECE_PLACES_LONG, &lost);
    if (table->long_bytes == NULL)
        return lost;
    free(table->long_bytes);
    table->long_bytes = NULL;
    return lost;
}
