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
 *
 * A long whole usually comes in one go. So its first piece stays where it was opened, and the next
 * messages are opened each to its place beside it (struct piece_room): nothing is copied. When anything
 * else needs that room, the whole moves to its place in the table.
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
    PIECE_FILL_MAX =
        2048, /* what fills up the last piece of a whole that is put together in a room */
    PIECE_ROOM = PIECE_HEADER + PIECE_WHOLE_MAX + PIECE_FILL_MAX,
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

/* PIECE_ROOM bytes where messages are opened, one at a time, and what is put together there. */
struct piece_room {
    struct piece_table *table;     /* whose whole that is; NULL: none */
    struct piece_place *place;     /* and what has come of it */
    uint8_t *bytes;                /* it, behind room for a piece's header */
    uint8_t *expected;             /* where a message is being opened beside it; NULL: none is */
    uint8_t covered[PIECE_HEADER]; /* of the whole: what that one's header covers meanwhile */
};

enum piece_end {
    PIECE_KEPT,   /* it waits for the others */
    PIECE_JOINED, /* the whole is there */
    PIECE_BAD,    /* it is not what a sender makes */
    PIECE_OTHER,  /* what was opened beside the whole in the room is not of it */
};

/* What of a message is to be known. */
struct piece_arrival {
    uint32_t session; /* counters are a session's own */
    uint64_t counter; /* of the message */
    uint64_t now_ns;
    enum ecn ecn; /* of its outer header */
};

struct piece_result {
    uint8_t *whole;     /* behind MESSAGE_TYPE_LENGTH bytes that are the caller's */
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

/* Takes the message of `length` bytes at `content`, which is where the room begins, and then nothing
 * is put together there; or where piece_expect() says. NULL for `room`: none may be. What is joined lies
 * in the room, too, or in the PIECE_ROOM bytes at content. */
enum piece_end piece_take(struct piece_table *table, struct piece_room *room,
                          const struct piece_arrival *arrival, uint8_t *content, size_t length,
                          struct piece_result *result);

/* A message that is not yet opened, with a content of `length` bytes, may be a piece of the whole in
 * the room. Returns where it is to be opened; NULL: it is none, or its bytes are there already. What then
 * opens is given to piece_take(), what does not to piece_expect_nothing(). */
uint8_t *piece_expect(struct piece_room *room, uint32_t session, uint64_t counter, size_t length,
                      uint64_t now_ns);
void piece_expect_nothing(struct piece_room *room);
/* Moves the whole out of the room. Returns the length of one that has to be given up since there is
 * no memory; 0: none. What was expected (PIECE_OTHER) is still where it was opened. */
size_t piece_room_leave(struct piece_room *room);

struct pieces_lost {
    unsigned n_wholes;
    size_t n_bytes; /* of all of them */
};

/* Frees all places, and the room if a whole of this table is there. Returns what waited. */
struct pieces_lost pieces_forget(struct piece_table *table, struct piece_room *room);

#endif
