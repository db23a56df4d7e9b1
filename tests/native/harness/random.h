/* random: xorshift64*, the same numbers in every run. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct random {
    uint64_t state; /* never 0 */
};

static inline uint64_t random_next(struct random *random) {
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * 0x2545f4914f6cdd1dull;
}

/* 0 .. bound - 1; the upper bits are the better ones. */
static inline size_t random_below(struct random *random, size_t bound) {
    return (size_t)((random_next(random) >> 20) % bound);
}

static inline void random_fill(struct random *random, uint8_t *bytes, size_t length) {
    while (length > 0) {
        uint64_t word = random_next(random);
        size_t n = length < sizeof word ? length : sizeof word;
        memcpy(bytes, &word, n);
        bytes += n;
        length -= n;
    }
}

#endif
