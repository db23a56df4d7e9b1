/* answer_limit: which dropped packets are answered by ICMP.
 *
 * An answer costs a write to the device, so answers to floods must be limited. But "too big" is
 * also how senders learn a path's MTU: a sender that never gets one sends into a black hole. So no
 * sender's packets may use up another sender's answers:
 *
 *   1. each kind has limits of its own
 *   2. each sender towards each peer has its own: an IPv4 address, an IPv6 /64
 *   3. so has each sender towards all peers, since our own side may have many hosts
 *   4. so have all senders of one origin towards one peer: a peer may send from any of its allowed
 *      IPs; our own side is one origin
 *   5. so has each origin, since it may choose the destination peers as well
 *   6. so have all together
 *
 * Levels 2 to 5 are tables of buckets, indexed by a keyed hash as in handshake_gate: nothing is
 * allocated, and no sender can aim at another's bucket. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_ANSWER_LIMIT_H
#define FASTUN_OUTBOUND_ANSWER_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum answer_kind {
    ANSWER_TOO_BIG,
    ANSWER_NO_SESSION, /* unreachable: the destination's peer is not connected */
    ANSWER_NO_PEER,    /* unreachable: the sender may choose any address that no peer has */
    N_ANSWER_KINDS,
};

enum {
    /* Each 5 us or so of the tun-reader, so all kinds together can cost 2 % of a core. */
    ANSWERS_PER_SECOND = 1000,
    ANSWERS_BURST = 1000,
    ANSWERS_PER_ORIGIN = 400, /* a second, and at once; so are the next three */
    ANSWERS_PER_ORIGIN_AND_PEER = 200,
    ANSWERS_PER_SENDER = 150,
    /* A sender needs one answer for each destination every ten minutes; this is for senders of
     * many flows that do not react at once. */
    ANSWERS_PER_SENDER_AND_PEER = 100,
    N_ANSWER_LEVELS = 4, /* of these */
    ANSWER_BUCKETS = 4096,
};

struct answer_limit {
    uint64_t hash_key;
    uint64_t full_at_ns[N_ANSWER_LEVELS][ANSWER_BUCKETS]; /* buckets of tokens (token_take) */
    uint64_t all_full_at_ns[N_ANSWER_KINDS];
};

/* Returns 0 or -errno. */
int answer_limit_init(struct answer_limit *limit);
/* Whether an IP packet may be answered. `origin` is the slot of the peer that the
 * packet's source belongs to, -1 for our own side; `slot` that of its destination. */
bool answer_limit_allows(struct answer_limit *limit, enum answer_kind kind, const uint8_t *packet,
                         int origin, unsigned slot, uint64_t now_ns);

#endif
