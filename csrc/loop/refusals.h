/* refusals: what the kernel may refuse. Most are of an offload, which has a slower substitute and is
 * retried after a while; of datagrams, which have none, they only say when that began and ended.
 *
 * One for each peer and kind, so that refusals affect that peer alone. A refusal counts only if the
 * substitute then works; otherwise the cause is another. `n_max` refusals in a row turn the offload
 * off; REFUSED_RETRY_NS later the next use is a trial, whose failure loses nothing, since the
 * substitute follows. A success resets the count and turns the offload on again.
 */
#ifndef FASTUN_LOOP_REFUSALS_H
#define FASTUN_LOOP_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

/* Short enough that an offload that works again is used within a minute, long enough that a trial,
 * one refused system call, costs next to nothing. */
#define REFUSED_RETRY_NS 20000000000ull

struct refusals {
    uint64_t off_until_ns; /* CLOCK_MONOTONIC; 0: on */
    unsigned n;            /* in a row */
    int error;             /* of the last */
    bool is_news;          /* turned off or on, not yet reported to the gateway */
};

static inline bool refusals_is_off(const struct refusals *refusals, uint64_t now_ns) {
    return now_ns < refusals->off_until_ns;
}

/* true: this refusal turned it off. */
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

/* true: this success turned it on again. */
static inline bool refusals_end(struct refusals *refusals) {
    bool was_off = refusals->off_until_ns != 0;
    refusals->n = 0;
    refusals->off_until_ns = 0;
    return was_off;
}

#endif
