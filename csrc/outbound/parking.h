/* parking: frames for peers on UDP that have no session at this moment.
 *
 * A session on UDP may lapse while nothing is sent, and the first packet after that asks for a new
 * one, which takes a round trip or, if a handshake message is lost, five seconds more. Until then
 * the peer's frames wait here, oldest first; WireGuard does the same (MAX_STAGED_PACKETS). Bounded
 * in bytes by peer and in all (36 MiB), and in time. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_PARKING_H
#define FASTUN_OUTBOUND_PARKING_H

#include "outbound/frame.h"
#include "loop/link_queue.h"

enum {
    /* Two retransmissions of a handshake; what waited longer, TCP has given up or sent again. */
    PARKED_MS_MAX = 6000,
    PARKED_PEERS_MAX = 64, /* peers that wait at once, each with at most LINK_QUEUE_BYTES */
    /* Frames from one peer may wait for so many others, since it chooses the destinations: eight
     * such peers could keep all others' from waiting. Our own side has many hosts. */
    PARKED_FOR_A_PEER_MAX = PARKED_PEERS_MAX / 8,
    PARKED_FOR_US_MAX = PARKED_PEERS_MAX * 3 / 4,
    /* For what exceeds the shares: 16 peers can each hold the most that one may. */
    PARKING_POOL_BYTES = 32 * 1024 * 1024,
};

struct parking {
    struct parked_peer {
        unsigned slot;
        int origin;              /* slot of the peer whose frame came first, -1: our own side */
        struct link_queue queue; /* entries are frames with their virtio_net_hdr */
    } peers[PARKED_PEERS_MAX];
    unsigned n; /* of peers that wait */
    struct queue_pool pool;
};

/* A frame for a peer without a session waits, if the peer has been on UDP, there is room, and it has
 * not waited in the device's queue before; otherwise it is dropped and answered. */
void parking_add(struct tun_reader *reader, const struct frame *frame,
                 const struct arrival *arrival);
/* Has the gateway asked for a session with the peer (reader->wanted.slot), if it was not of late:
 * on UDP a peer may be reached by a handshake. */
void parking_want_session(struct tun_reader *reader, unsigned slot, uint64_t now_ns);
/* Forwards the frames of peers that have got a session, and drops what has waited too long.
 * false: the ring is full. */
bool parking_release(struct tun_reader *reader);
/* Drops the frames that wait for the peer of a slot: it has left it, and another may come. */
void parking_forget(struct tun_reader *reader, unsigned slot);

/* -- the frames themselves -- */

struct parking *parking_new(void);
void parking_free(struct parking *parking);
/* Appends a copy of a frame that came from `origin`. false: there is no room. */
bool parking_append(struct parking *parking, unsigned slot, int origin,
                    const struct queue_entry *entry, const uint8_t *bytes);
/* The first frame of the `i`-th peer that waits, of parking->n; it stays. */
void parking_first(struct parking *parking, unsigned i, struct queue_entry *entry,
                   const uint8_t **bytes);
/* Removes it. A peer's place without frames is free: the last one moves there. */
void parking_pop(struct parking *parking, unsigned i);
/* Which peer waits; -1: this one does not. */
int parking_find(const struct parking *parking, unsigned slot);

#endif
