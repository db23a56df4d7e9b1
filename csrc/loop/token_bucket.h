/* token_bucket: a rate limit, kept as the one moment at which its bucket would be full.
 *
 * All zeros: full. A bucket outlives what it limits, so that a new link or session is not a new
 * allowance.
 */
#ifndef FASTUN_LOOP_TOKEN_BUCKET_H
#define FASTUN_LOOP_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/* `now_ns` is CLOCK_MONOTONIC. Takes `n` tokens, at most `burst`. false: there are fewer. */
static inline bool tokens_take(uint64_t *full_at_ns, uint64_t now_ns, unsigned per_second,
                               unsigned burst, unsigned n) {
    uint64_t token_ns = 1000000000u / per_second;
    uint64_t full_at = *full_at_ns > now_ns ? *full_at_ns : now_ns;
    if (full_at + n * token_ns > now_ns + burst * token_ns)
        return false;
    *full_at_ns = full_at + n * token_ns;
    return true;
}

static inline bool token_take(uint64_t *full_at_ns, uint64_t now_ns, unsigned per_second,
                              unsigned burst) {
    return tokens_take(full_at_ns, now_ns, per_second, burst, 1);
}

#endif
