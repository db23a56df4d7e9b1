/* pieces: what is too long for one datagram, as messages of pieces of it.
 *
 *     type u8 (0x04), index u8, id u16, length of the whole u16, length of a piece u16, piece
 *
 * Little-endian. All pieces are equally long, so that many follow one another in one train; the last
 * has what is left, and may end with zeros that make it as long. They are sealed one behind the other,
 * so the first one's counter, whose low half is the id, tells apart what is under way at once. The
 * whole is, by the length of a piece,
 *
 *     0          an Ethernet frame in two halves; of a frame of odd length the second ends with a zero
 *     any other  a super-packet: its virtio_net_hdr[12] and the packet or Ethernet frame
 *
 * Only what has all its pieces goes on. It is put together, in any order, in a place of its peer: one
 * of PIECE_PLACES that its counter names, or, where it is long, one of PIECE_PLACES_LONG. The next
 * that needs a place takes it; what came first longer than PIECE_WAIT_NS ago is joined by nothing.
 */
#ifndef FASTUN_PACKET_PIECES_H
#define FASTUN_PACKET_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/ecn.h"

enum {
    PIECE_HEADER = 8,
    PIECE_BYTES_MAX = 1600,  /* of a half; any frame of Ethernet's usual MTU, tags included */
    PIECE_PLACES = 16,       /* of a peer: as many frames may be reordered */
    PIECE_PLACES_LONG = 2,   /* the super-packet that ends, and the one that begins */
    PIECE_WHOLE_MAX = 65535, /* what the header's length can say */
    PIECE_SHORT_MAX = 2 * PIECE_BYTES_MAX,
    PIECES_MAX = 128, /* of a whole: on the narrowest path a super-packet needs fewer */
};

#define PIECE_WAIT_NS 1000000000ull

struct piece_place {
    uint64_t came_ns; /* the first piece, CLOCK_MONOTONIC; 0: free */
    uint64_t has[PIECES_MAX / 64];
    uint64_t first; /* its counter, whether it is there or not */
    uint32_t session;
    uint16_t whole, slice;
    uint8_t n_missing;
    uint8_t ecn; /* CE, if the outer header of any piece had it; else the first one's */
};

/* Of one peer: at most some 180 KiB, of which no memory is used that was not needed. */
struct piece_table {
    struct piece_place places[PIECE_PLACES], long_places[PIECE_PLACES_LONG];
    uint8_t *long_bytes; /* of all long places; NULL until there is need of one */
    uint8_t bytes[PIECE_PLACES][PIECE_SHORT_MAX];
};

enum piece_end {
    PIECE_KEPT,   /* it waits for the others */
    PIECE_JOINED, /* the whole is there */
    PIECE_BAD,    /* it is not what a sender makes */
};

/* What of a message is to be known. */
struct piece_arrival {
    uint32_t session; /* counters are a session's own */
    uint64_t counter; /* of the message */
    uint64_t now_ns;
    enum ecn ecn; /* of its outer header */
};

struct piece_result {
    size_t length;      /* of the whole */
    bool is_super;      /* a super-packet; else an Ethernet frame */
    enum ecn ecn;       /* of the whole */
    size_t lost_length; /* of another whole that has been given up for this one; 0: none has */
};

/* The length of a frame's half. */
static inline size_t piece_length(size_t frame_length) {
    return (frame_length + 1) / 2;
}

/* `slice`: 0 of a frame's half, else the length of every piece but the last. */
void piece_write_header(uint8_t header[PIECE_HEADER], unsigned index, uint16_t id, size_t length,
                        size_t slice);

/* Takes the message of `length` bytes at `content`. What is joined lies behind MESSAGE_TYPE_LENGTH
 * bytes there, where PIECE_WHOLE_MAX must find room. */
enum piece_end piece_take(struct piece_table *table, const struct piece_arrival *arrival,
                          uint8_t *content, size_t length, struct piece_result *result);

struct pieces_lost {
    unsigned n_wholes;
    size_t n_bytes; /* of all of them */
};

/* Frees all places. Returns what waited there. */
struct pieces_lost pieces_forget(struct piece_table *table);

#endif
