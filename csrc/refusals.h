/* refusals: something that the kernel may refuse, that has a slower substitute, and that is tried
 * again after a while.
 *
 * One for each peer and kind, so that a peer's refusals cost that peer alone. Only what went
 * through by the substitute counts as refused: else the fault is another. `n_max` refusals in a row
 * turn it off; REFUSED_RETRY_NS later the next use is the trial, whose failure loses nothing, since
 * the substitute follows. A use that succeeds ends the count and turns it on again.
 */
#ifndef FASTUN_REFUSALS_H
#define FASTUN_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

/* Well under a minute, within which what was repaired is to be in use again, and so long that a
 * trial costs nothing: one refused system call. */
#define REFUSED_RETRY_NS 20000000000ull

struct refusals {
    uint64_t off_until_ns; /* CLOCK_MONOTONIC; 0: on */
    unsigned n;            /* in a row */
    int error;             /* of the last */
    bool is_news;          /* turned off or on, and the gateway does not know */
};

static inline bool refusals_is_off(const struct refusals *refusals, uint64_t now_ns) {
    return now_ns < refusals->off_until_ns;
}

/* true: that turned it off. */
static inline bool refusals_add(struct refusals *refusals, unsigned n_max, int error,
                                uint64_t now_ns) {
    bool was_on = refusals->off_until_ns == 0;
    refusals->n++;
    refusals->error = error;
    if (refusals->n < n_max)
        return false;
    refusals->off_until_ns = now_ns + REFUSED_RETRY_NS;
    return was_on;
}

/* true: that turned it on again. */
static inline bool refusals_end(struct refusals *refusals) {
    bool was_off = refusals->off_until_ns != 0;
    refusals->n = 0;
    refusals->off_until_ns = 0;
    return was_off;
}

#endif
