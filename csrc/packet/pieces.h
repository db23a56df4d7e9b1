/* pieces: an Ethernet frame that is too long for the path, as two messages of its two halves.
 *
 *     type u8 (0x04), index u8 (0, 1), id u16, length of the frame u16, 2 zero bytes, half
 *
 * Little-endian. Both are equally long, so that many follow one another in one train: of a frame of
 * odd length the second one ends with a zero. The id tells frames apart that are under way at once.
 *
 * Only a frame with both halves goes on. A half waits for the other in a place that its id names,
 * until the next one needs that place; after PIECE_WAIT_NS it finds no other any more.
 */
#ifndef FASTUN_PACKET_PIECES_H
#define FASTUN_PACKET_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/ecn.h"

enum {
    PIECE_HEADER = 8,
    PIECE_BYTES_MAX = 1600, /* of a half; any frame of Ethernet's usual MTU, tags included */
    PIECE_PLACES = 16,      /* of a peer: as many frames may be reordered */
};

#define PIECE_WAIT_NS 1000000000ull

struct piece_place {
    uint64_t came_ns; /* CLOCK_MONOTONIC; 0: free */
    uint16_t id, frame_length;
    uint8_t index;
    uint8_t ecn; /* of its outer header */
    uint8_t bytes[PIECE_BYTES_MAX];
};

/* Of one peer. */
struct piece_table {
    struct piece_place places[PIECE_PLACES];
};

enum piece_end {
    PIECE_KEPT,   /* it waits for the other half */
    PIECE_JOINED, /* the frame is whole */
    PIECE_BAD,    /* it is not what a sender makes */
};

static inline size_t piece_length(size_t frame_length) {
    return (frame_length + 1) / 2;
}

void piece_write_header(uint8_t header[PIECE_HEADER], unsigned index, uint16_t id,
                        size_t frame_length);

/* Takes the message of `length` bytes at `content`. The frame, when it is whole, lies behind
 * MESSAGE_TYPE_LENGTH bytes there, in as much room as two such messages need; its length is
 * returned in *frame_length. *has_lost: another half has been given up for this one. *ecn is the
 * codepoint of the message's outer header, and of a whole frame CE if that of either half was. */
enum piece_end piece_take(struct piece_table *table, uint8_t *content, size_t length,
                          uint64_t now_ns, size_t *frame_length, bool *has_lost, enum ecn *ecn);

/* Frees all places. */
void pieces_forget(struct piece_table *table);

#endif
