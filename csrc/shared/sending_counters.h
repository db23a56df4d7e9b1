/* sending_counters: which counters of each session have been used, in memory of tun-reader and
 * gateway alone.
 *
 * Both seal in a session, so both draw its counters from one word, by an atomic add, before they use
 * them: whoever is killed leaves counters that are used by none, and never one that is used twice. A
 * successor of the tun-reader draws on.
 *
 * A word is never set back. A session that begins at a place notes the `base`, what had been drawn
 * there by others, and its counters are what is drawn less that: from 0 on. A tun-reader that has not
 * heard yet that its session has ended may go on drawing at a place that is another session's by now:
 * neither draws what the other has.
 */
#ifndef FASTUN_SHARED_SENDING_COUNTERS_H
#define FASTUN_SHARED_SENDING_COUNTERS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "counters.h"
#include "shared/peer_table.h"

struct sending_counter {
    _Atomic uint64_t drawn;
    /* The tun-reader's: blocks that it has sealed under AES-256-GCM in the session that was given this
     * base and this index. */
    _Atomic uint64_t n_blocks, base, index;
};

struct sending_counters {
    alignas(64) struct sending_counter places[N_PEER_SLOTS][SENDING_PLACES];
};

/* Returns what had been drawn before. Relaxed: the order is that of the word alone. */
static inline uint64_t sending_counter_draw(struct sending_counter *counter, uint64_t n) {
    return atomic_fetch_add_explicit(&counter->drawn, n, memory_order_relaxed);
}

static inline uint64_t sending_counter_drawn(const struct sending_counter *counter) {
    return atomic_load_explicit(&counter->drawn, memory_order_relaxed);
}

#endif
