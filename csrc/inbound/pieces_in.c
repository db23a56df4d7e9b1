#define _GNU_SOURCE
#include "inbound/pieces_in.h"

#include <stdlib.h>
#include <string.h>

#include "packet/byteorder.h"

enum { COUNTER_OFFSET = 8 };

/* -- life -------------------------------------------------------------------------------------- */

struct pieces_in *pieces_in_new(void) {
    return calloc(1, sizeof(struct pieces_in));
}

void pieces_in_free(struct pieces_in *pieces) {
    for (unsigned slot = 0; pieces != NULL && slot < N_PEER_SLOTS; slot++)
        pieces_forget(&pieces->tables[slot], &pieces->room);
    free(pieces);
}

void pieces_in_forget(struct link_reader *reader, unsigned slot) {
    struct pieces_in *pieces = reader->pieces;
    struct pieces_lost lost = pieces_forget(&pieces->tables[slot], &pieces->room);
    if (lost.n_wholes == 0)
        return;
    stats_count(reader->loop.stats, lost.n_wholes, lost.n_bytes);
    stats_dropped(reader->loop.stats, DROP_link_reader_piece_lost, lost.n_wholes);
}

/* -- in the ring ------------------------------------------------------------------------------- */

uint8_t *pieces_in_place(struct link_reader *reader, const struct receiving_key *key,
                         const struct arrival *arrival, const uint8_t *message, size_t length) {
    struct pieces_in *pieces = reader->pieces;
    if (pieces == NULL || pieces->room.table != &pieces->tables[key->slot] || arrival->slot >= 0)
        return NULL;
    return piece_expect(&pieces->room, key->index, le64_read(message + COUNTER_OFFSET),
                        length - DATA_MESSAGE_MIN, arrival->now_ns);
}

void pieces_in_refused(struct link_reader *reader) {
    if (reader->pieces != NULL)
        piece_expect_nothing(&reader->pieces->room);
}

static void drop_lost(struct link_reader *reader, size_t length) {
    if (length > 0)
        message_drop(reader, DROP_link_reader_piece_lost, length);
    capture_drop(reader->loop.capture, N_DROPS); /* what was lost came before */
}

void pieces_in_leave(struct link_reader *reader) {
    if (reader->pieces != NULL && reader->pieces->room.place != NULL)
        drop_lost(reader, piece_room_leave(&reader->pieces->room));
}

/* -- taking one -------------------------------------------------------------------------------- */

static enum piece_end take(struct link_reader *reader, const struct receiving_key *key,
                           const struct opened *opened, const struct arrival *arrival,
                           struct piece_result *result) {
    struct pieces_in *pieces = reader->pieces;
    struct piece_arrival piece = {key->index, key->counter, arrival->now_ns, arrival->ecn};
    enum piece_end end = piece_take(&pieces->tables[key->slot], &pieces->room, &piece,
                                    opened->content, opened->length, result);
    drop_lost(reader, result->lost_length);
    if (end == PIECE_BAD)
        message_drop(reader, DROP_link_reader_bad_piece, opened->length);
    return end;
}

/* What was opened beside a whole, and is not one of its pieces. */
static void move_to_front(struct link_reader *reader, struct opened *opened) {
    pieces_in_leave(reader);
    memmove(opened->front, opened->content, opened->length);
    opened->content = opened->front;
}

static void commit_whole(struct link_reader *reader, unsigned slot, const struct opened *last,
                         const struct piece_result *whole, const struct arrival *arrival) {
    struct arrival joined = *arrival;
    struct opened opened = *last;
    joined.ecn = whole->ecn;
    opened.content = whole->whole - MESSAGE_TYPE_LENGTH;
    opened.length = MESSAGE_TYPE_LENGTH + whole->length;
    memset(opened.content, 0, MESSAGE_TYPE_LENGTH);
    opened.content[0] = whole->is_super ? MESSAGE_SUPER : MESSAGE_ETHERNET;
    message_commit(reader, slot, &reader->udp_formats[1], &opened, &joined);
}

bool pieces_in_take(struct link_reader *reader, const struct receiving_key *key,
                    struct opened *opened, const struct arrival *arrival) {
    struct piece_result whole;
    bool is_piece = opened->length > 0 && arrival->slot < 0 && reader->pieces != NULL &&
                    opened->content[0] == MESSAGE_PIECE;
    enum piece_end end = is_piece ? take(reader, key, opened, arrival, &whole) : PIECE_OTHER;
    if (end == PIECE_OTHER && opened->content != opened->front) {
        move_to_front(reader, opened);
        if (is_piece)
            end = take(reader, key, opened, arrival, &whole);
    }
    if (end == PIECE_JOINED)
        commit_whole(reader, key->slot, opened, &whole, arrival);
    return is_piece;
}
