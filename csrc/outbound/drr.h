/* drr: whose turn it is on an uplink that all peers share.
 *
 * Deficit round robin (Shreedhar and Varghese, 1995) with FQ-CoDel's preference for the sparse (RFC
 * 8290 4.1). A flow is a peer. One that has something comes first, once, with one quantum; if it
 * still has something then, it takes turns with the others, each with a quantum in its turn. What a
 * turn exceeds its quantum by is taken off the next. A flow that has been emptied while it was first
 * has to let the others pass before it is first again.
 *
 * It knows flows by number only, and neither queues nor sockets.
 */
#ifndef FASTUN_OUTBOUND_DRR_H
#define FASTUN_OUTBOUND_DRR_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/peer_table.h"

enum drr_place { DRR_NOWHERE, DRR_FIRST, DRR_IN_TURN };

struct drr_flow {
    int32_t deficit; /* bytes that it may send yet in this turn */
    uint16_t next;
    uint8_t place; /* enum drr_place */
    bool has_more;
};

/* Linked by `next`. */
struct drr_list {
    int first, last; /* -1: it is empty */
};

struct drr {
    struct drr_list first, in_turn;
    uint32_t quantum; /* bytes; may change at any time */
    unsigned n_ready; /* flows that have something */
    struct drr_flow flows[N_PEER_SLOTS];
};

void drr_init(struct drr *drr, uint32_t quantum);
/* The flow has something to send. */
void drr_wake(struct drr *drr, unsigned flow);
/* Whose turn it is, and how many bytes of it; -1: no flow has anything. It stays the same until
 * drr_sent. */
int drr_next(struct drr *drr, uint32_t *n_bytes);
/* Whether it comes first, and not in turn. */
static inline bool drr_is_first(const struct drr *drr, unsigned flow) {
    return drr->flows[flow].place == DRR_FIRST;
}
/* The flow whose turn it was sent that much; `has_more`: it could send more. */
void drr_sent(struct drr *drr, unsigned flow, uint32_t n_bytes, bool has_more);
/* The flow has nothing any more, although it was not its turn. */
void drr_rest(struct drr *drr, unsigned flow);

#endif
