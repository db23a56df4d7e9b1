/* overtaking: which of the frames that wait for a slow stream go before the others.
 *
 * A flow that sends all it can fills the ring, and a ping, a query or a keystroke waits behind it. So the small
 * frames of a flow that sends little overtake (after RFC 8290 4.1, FQ-CoDel's sparse flows):
 *
 *   little   a quarter of what the stream carries, at most
 *   share    half of what the stream carries, for all such flows together, so that what is overtaken is
 *            not held up for long
 *   order    none overtakes one of its own flow, or one whose flow is unknown
 *
 * In the ring all that waits is looked at; what comes to a link's own queue is inserted there.
 *
 * Private to the link-writer, one a stream.
 */
#ifndef FASTUN_OUTBOUND_OVERTAKING_H
#define FASTUN_OUTBOUND_OVERTAKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/flow.h"

enum {
    /* A packet of the usual MTU, and what is about it. */
    OVERTAKES_MAX = 1600,
    /* In bytes of the stream: what a byte costs its flow, and all flows that overtake. */
    OVERTAKES_COST = 4,
    OVERTAKES_COST_OF_ALL = 2,
    /* What each may use at once; and what is remembered of a flow that uses more. */
    OVERTAKES_BURST = OVERTAKES_COST * 2 * OVERTAKES_MAX,
    OVERTAKES_BURST_OF_ALL = OVERTAKES_COST_OF_ALL * 16 * OVERTAKES_MAX,
    OVERTAKES_REMEMBERED = 4 * OVERTAKES_BURST,
};

/* All zeros: nothing was written yet. Byte counts are modulo 2^32. */
struct overtaking {
    uint32_t n_bytes;       /* that the stream has taken */
    uint32_t used_by_all;   /* up to which byte the share of all is used up, */
    uint32_t used[N_FLOWS]; /* and that of each flow */
    /* Frames in the link's own queue, by flow; the last number: unknown ones. */
    uint32_t n_waiting[N_FLOWS + 1];
};

/* One look at what waits, in order: which flows have a frame that does not overtake. */
struct overtaken {
    bool flows[N_FLOWS];
    bool any_flow;
};

/* Whether the next frame goes before those that do not overtake. `flow` is 1 + its number; 0: unknown.
 * `is_new`: no look has seen it yet. */
bool overtaking_next(struct overtaking *overtaking, struct overtaken *overtaken, uint32_t flow,
                     size_t length, bool is_new);

/* The same for a frame that comes to those in the link's own queue; true: it overtakes them. */
bool overtaking_arrives(struct overtaking *overtaking, uint32_t flow, size_t length);
/* One that did not overtake waits there, or no longer; `flow` as above. */
void overtaking_waits(struct overtaking *overtaking, uint32_t flow, bool waits);
/* None waits there any more. */
void overtaking_none_waits(struct overtaking *overtaking);

static inline void overtaking_wrote(struct overtaking *overtaking, size_t n_bytes) {
    overtaking->n_bytes += (uint32_t)n_bytes;
}

#endif
