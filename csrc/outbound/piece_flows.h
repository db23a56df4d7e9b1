/* piece_flows: which flows' super-packets go in pieces, and which are split since pieces get lost.
 *
 * With one piece the whole super-packet is lost, with one segment that segment. TCP shows what was
 * lost by sending it again: a super-packet that begins in front of the flow's last end. Then the flow
 * is split for some seconds, after each further loss twice as long. Flows that share a place, by
 * their addresses' hash, are split together.
 */
#ifndef FASTUN_OUTBOUND_PIECE_FLOWS_H
#define FASTUN_OUTBOUND_PIECE_FLOWS_H

#include "packet/gso.h"

enum {
    PIECE_FLOWS = 256,
    PIECE_LOSSES_MAX = 4, /* then the flow is split for the longest time */
};

#define PIECE_SPLIT_NS  4000000000ull   /* after the first loss */
#define PIECE_FORGET_NS 120000000000ull /* so long without one, and the next is the first again */

struct piece_flow {
    uint64_t split_until_ns;
    uint32_t flow, next; /* hash; the sequence number behind the last super-packet */
    uint8_t n_losses;
};

struct piece_flows {
    struct piece_flow places[PIECE_FLOWS];
};

/* Whether the TCP super-packet for the peer at `slot` may go in pieces; it is noted as sent. */
bool piece_flows_may(struct piece_flows *flows, unsigned slot, const struct gso_split *split,
                     uint64_t now_ns);

#endif
