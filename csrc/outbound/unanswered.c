#include "outbound/unanswered.h"

#include "shared/clock.h"

/* An answer takes a round trip, of the longest ways as well. A flow that pauses for longer is like a
 * new one: so no flow stays in two lanes. */
static const uint64_t ANSWER_NS = NS_PER_S;

bool unanswered_stays(struct unanswered *unanswered, uint64_t hash, bool is_through,
                      uint64_t now_ns) {
    struct unanswered_flow *flow = &unanswered->flows[hash % UNANSWERED_PLACES];
    if (flow->hash != hash || now_ns - flow->last_ns > ANSWER_NS)
        *flow = (struct unanswered_flow){.hash = hash, .since_ns = now_ns};
    flow->last_ns = now_ns;
    flow->stays = flow->stays || (is_through && now_ns - flow->since_ns > ANSWER_NS);
    return flow->stays;
}
