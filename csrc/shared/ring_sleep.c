/* How the ring's consumer sleeps, and offers the token meanwhile. */
#define _GNU_SOURCE
#include <time.h>

#include "shared/clock.h"
#include "shared/ring.h"
#include "shared/token.h"

/* A holder may have moved the tail. */
void ring_regain(struct ring *ring, int channel_fd) {
    ring->is_orphaned |= token_regain(&ring->shared->consumer, channel_fd);
    ring->tail = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed);
    ring->peer = ring->tail;
}

static uint32_t offer_of(const struct ring *ring) {
    return ring->is_offered ? TOKEN_OFFERED : 0;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Whether a record or the bell comes soon: with a core to spare that is sooner than a wake-up. */
static bool spin(const struct ring *ring, uint64_t cursor) {
    uint64_t end_ns = now_ns() + ring->spin_ns;
    do
        if (atomic_load_explicit(&ring->shared->head, memory_order_relaxed) != cursor ||
            waiter_is_rung(&ring->shared->consumer))
            return true;
    while (now_ns() < end_ns);
    return false;
}

enum wait_end ring_wait_record(struct ring *ring, uint64_t cursor, int channel_fd,
                               struct stats_block *stats) {
    struct waiter *self = &ring->shared->consumer;
    uint32_t offer = offer_of(ring);
    if (ring->spin_ns > 0 && spin(ring, cursor))
        return waiter_is_rung(self) ? WAIT_DOORBELL : WAIT_READY;
    uint32_t event = waiter_prepare(self, WAITER_ON_FUTEX | offer);
    enum wait_end end = WAIT_READY;
    if (atomic_load_explicit(&ring->shared->head, memory_order_acquire) != cursor)
        waiter_cancel(self);
    else
        end = waiter_sleep(self, event, channel_fd, stats);
    if (offer != 0)
        ring_regain(ring, channel_fd);
    return end;
}

bool ring_prepare_poll(struct ring *ring, uint64_t cursor) {
    struct waiter *self = &ring->shared->consumer;
    waiter_prepare(self, WAITER_ON_EVENTFD | offer_of(ring));
    if (atomic_load_explicit(&ring->shared->head, memory_order_acquire) == cursor &&
        !waiter_is_rung(self))
        return true;
    waiter_cancel(self);
    return false;
}
