/* unanswered: flows that get no answers, and so come out of a queue whose lane is not theirs.
 *
 * A flow that is answered comes out of its own lane's queue before long: answers are written there. One
 * that still crosses after a while gets none, and would cross for ever. It stays in the lane whose
 * tun-reader reads it, from a moment on at which all of it that has crossed has been sealed.
 *
 * The tun-reader's, of a side that decides about lanes by flows. A place has one flow, the last one.
 */
#ifndef FASTUN_OUTBOUND_UNANSWERED_H
#define FASTUN_OUTBOUND_UNANSWERED_H

#include <stdbool.h>
#include <stdint.h>

enum { UNANSWERED_PLACES = 1024 };

struct unanswered_flow {
    uint64_t hash;
    uint64_t since_ns, last_ns; /* since when it has crossed; when it last came */
    bool stays;
};

struct unanswered {
    struct unanswered_flow flows[UNANSWERED_PLACES];
};

/* Whether a frame of this flow, which by its flow is another lane's, stays in this one. `is_through`:
 * nothing that has crossed there is left. */
bool unanswered_stays(struct unanswered *unanswered, uint64_t hash, bool is_through,
                      uint64_t now_ns);

#endif
