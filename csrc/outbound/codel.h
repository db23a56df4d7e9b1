/* codel: when to drop a frame because what is before it has waited too long.
 *
 * A queue that is long for a moment is what a queue is for; one that stays long only makes everyone
 * wait. CoDel's rule (RFC 8289): once the delay has been above a target for a whole interval, drop
 * one frame, then more and more often until it is under the target again. Here the frame is dropped
 * on its way in, not at the head: behind that it is sealed, and a counter must not be spent for
 * nothing. TCP inside takes the loss as what it is, and sends slower.
 *
 * Private to the tun-reader, one a link.
 */
#ifndef FASTUN_OUTBOUND_CODEL_H
#define FASTUN_OUTBOUND_CODEL_H

#include <stdbool.h>
#include <stdint.h>

enum {
    /* RFC 8289 says 5 ms and 100 ms for packets; here a frame may be 64 KiB, which takes 10 ms on a
     * link of 50 Mbit/s, so that a queue of one frame must not count as standing. */
    CODEL_TARGET_NS = 20 * 1000 * 1000,
    CODEL_INTERVAL_NS = 100 * 1000 * 1000,
};

/* All zeros: nothing has waited yet. */
struct codel {
    uint64_t above_since_ns; /* the delay is above the target since then; 0: it is not */
    uint64_t drop_next_ns;
    uint32_t n_drops; /* since it began to drop */
    bool is_dropping;
    bool has_dropped; /* the last frame */
};

/* Whether the frame that arrives now is to be dropped, which are never two in a row: only a frame
 * that goes through has the delay measured anew, so that an old figure cannot stop a flow.
 * `delay_ns` is how long the oldest frame before it has waited. */
bool codel_should_drop(struct codel *codel, uint64_t delay_ns, uint64_t now_ns);

#endif
