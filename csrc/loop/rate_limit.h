/* rate_limit: bytes a second, kept as the one moment until which all that has passed is paid for.
 *
 * A super-packet is larger than many a burst, and passes whole: the moment is then ahead of now, and
 * what follows waits until it has come. What was not used before counts for `burst_ns` at most. The
 * rest of each division is carried on, so that small packets at a high rate add up exactly.
 */
#ifndef FASTUN_LOOP_RATE_LIMIT_H
#define FASTUN_LOOP_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* 1 Tbit/s, of which a second's bytes are counted in nanoseconds without overflow. */
#define RATE_MAX 125000000000ull

struct rate_limit {
    uint64_t rate; /* bytes a second; 0: no limit */
    uint64_t burst_ns;
    uint64_t paid_ns; /* CLOCK_MONOTONIC */
    uint64_t rest;    /* of a nanosecond, as a fraction of `rate` */
};

/* How long `n_bytes` take at the rate, which is not 0; n_bytes < 2^32. */
static inline uint64_t rate_limit_ns(const struct rate_limit *limit, uint64_t n_bytes) {
    return n_bytes * 1000000000u / limit->rate;
}

static inline bool rate_limit_allows(const struct rate_limit *limit, uint64_t now_ns) {
    return limit->rate == 0 || limit->paid_ns <= now_ns;
}

static inline void rate_limit_charge(struct rate_limit *limit, uint64_t n_bytes, uint64_t now_ns) {
    if (limit->rate == 0)
        return;
    if (limit->paid_ns + limit->burst_ns < now_ns) {
        limit->paid_ns = now_ns - limit->burst_ns;
        limit->rest = 0;
    }
    uint64_t owed = n_bytes * 1000000000u + limit->rest;
    limit->paid_ns += owed / limit->rate;
    limit->rest = owed % limit->rate;
}

#endif
