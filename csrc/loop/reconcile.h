/* reconcile: makes the counters of a worker whose predecessor was killed add up again.
 *
 * Counting and moving the ring's index are two steps, and no kill waits for the second. The ring
 * numbers its packets, so the successor sees how many went through, and compares:
 *
 *     reader   taken in - dropped  =  published, in all its rings
 *     writer   delivered + dropped =  released
 *
 * A tun-writer leaves alone what was being written: whether the device has it cannot be found out, and
 * it could get it twice. What of that was not counted is dropped as worker_died.
 *
 * What a reader counted and did not publish (its burst, the rest of a frame that was being split)
 * and what a link-writer released into its links' queues is lost: dropped as worker_died. What a
 * writer counted and did not release the successor finds in the ring, and does not count again.
 *
 * Not seen is what no counter has seen: the frame that was being read, frames that wait for a
 * session or for a rate limit in the tun-reader (parking.h, shaping.h), bytes of streams in the
 * link-reader (rx_buffer). What waits for a rate limit in the link-reader was counted, so it is seen.
 */
#ifndef FASTUN_LOOP_RECONCILE_H
#define FASTUN_LOOP_RECONCILE_H

#include "loop/loop.h"

/* At the start, before anything is counted; by a writer also when the holder of its token was killed
 * (shared/token.h), which left the same behind. `n_crossed`: packets that tun-readers of this lane have
 * put into the rings of other lanes; 0 for other roles. */
void reconcile(struct loop *loop, uint64_t n_crossed);

/* How many of a record's packets a writer has to count. */
static inline uint32_t reconcile_uncounted(struct loop *loop, uint32_t n_packets) {
    uint64_t already = loop->n_counted_already < n_packets ? loop->n_counted_already : n_packets;
    loop->n_counted_already -= already;
    return n_packets - (uint32_t)already;
}

#endif
