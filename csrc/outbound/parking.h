/* parking: frames for peers on UDP that have no session at this moment.
 *
 * A session on UDP may lapse while nobody sends, and the first packet after that asks for a new
 * one, which takes a round trip or, if a handshake message is lost, five seconds more. Until then
 * the peer's frames wait here, oldest first; WireGuard does the same (MAX_STAGED_PACKETS). Bounded
 * in bytes by peer and in all (36 MiB), and in time. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_PARKING_H
#define FASTUN_OUTBOUND_PARKING_H

#include "outbound/link_queue.h"
#include "shared/peer_table.h"

enum {
    /* Two retransmissions of a handshake; what waited longer, TCP has given up or sent again. */
    STAGED_MS_MAX = 6000,
    STAGED_PEERS_MAX = 64, /* peers that wait at once, each with at most LINK_QUEUE_BYTES */
    /* Frames from one peer may wait for so many others, since it chooses the destinations: eight
     * such peers could keep all others' from waiting. Our own side has many hosts. */
    STAGED_FOR_A_PEER_MAX = STAGED_PEERS_MAX / 8,
    STAGED_FOR_US_MAX = STAGED_PEERS_MAX * 3 / 4,
    /* For what exceeds the shares: 16 peers can each hold the most that one may. */
    STAGED_POOL_BYTES = 32 * 1024 * 1024,
};

struct staging {
    struct staged_peer {
        unsigned slot;
        int origin;              /* slot of the peer whose frame came first, -1: our own side */
        struct link_queue queue; /* entries are frames with their virtio_net_hdr */
    } peers[STAGED_PEERS_MAX];
    unsigned n; /* of peers that wait */
    struct queue_pool pool;
};

struct staging *staging_new(void);
void staging_free(struct staging *staging);

/* Appends a copy of a frame that came from `origin`. false: there is no room. */
bool staging_append(struct staging *staging, unsigned slot, int origin,
                    const struct queue_entry *entry, const uint8_t *bytes);
/* The first frame of the `i`-th peer that waits, of staging->n; it stays. */
void staging_peek(struct staging *staging, unsigned i, struct queue_entry *entry,
                  const uint8_t **bytes);
/* Takes it. A peer without frames is none any more: the last one moves to its place. */
void staging_take(struct staging *staging, unsigned i);
/* Which peer waits; -1: this one does not. */
int staging_find(const struct staging *staging, unsigned slot);

#endif
