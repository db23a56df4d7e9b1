#define _GNU_SOURCE
#include "shared/pace.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "shared/clock.h"
#include "shared/futex.h"

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void pace_rest(void) {
    const struct timespec rest = {.tv_nsec = PACE_REST_MS * NS_PER_MS};
    _Atomic uint32_t word = 0;
    if (futex_wait(&word, 0, PACE_REST_MS * NS_PER_MS) < 0 && errno != ETIMEDOUT)
        ppoll(NULL, 0, &rest, NULL);
}

static _Thread_local struct {
    uint64_t last_ns; /* of the last refusal */
    unsigned n;       /* in a row, none longer than PACE_WINDOW_MS after another */
} row;

void pace_refused(void) {
    uint64_t now = now_ns();
    bool goes_on = row.n > 0 && now - row.last_ns < PACE_WINDOW_MS * (uint64_t)NS_PER_MS;
    row.n = goes_on ? row.n + 1 : 1;
    row.last_ns = now;
    if (row.n > PACE_FREE)
        pace_rest();
}

void pace_accepted(void) {
    row.n = 0;
}
