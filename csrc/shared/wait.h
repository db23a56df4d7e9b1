/* wait: how a worker sleeps, and how its neighbour or the gateway ends that sleep.
 *
 * A worker sleeps in one of two places: on its ring (a futex word in the ring's shared memory) or
 * on file descriptors (ppoll or epoll, always together with its control channel). The gateway's
 * doorbell ends both: the message on the channel ends the poll, `rung` and `event` end the futex
 * wait. A link-writer with a full socket must hear its ring and that socket at once: it then sleeps
 * on descriptors, one of them an eventfd that the producer writes instead of waking the futex. So
 * does a writer that has been idle for a heartbeat.
 */
#ifndef FASTUN_SHARED_WAIT_H
#define FASTUN_SHARED_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/stats.h"

/* One side of a ring, in shared memory. Written by both sides and by the gateway. */
struct waiter {
    _Atomic uint32_t event;  /* the futex word: grows by one at every wake-up */
    _Atomic uint32_t asleep; /* a waiter_sleep_kind, which the waker takes to 0, and token_flags */
    _Atomic uint32_t rung;   /* 1 when the gateway has something to say */
    _Atomic uint32_t wanted; /* bytes of free space that a sleeping producer waits for */
};

/* How the owner sleeps, or is about to. */
enum waiter_sleep_kind { WAITER_AWAKE = 0, WAITER_ON_FUTEX = 1, WAITER_ON_EVENTFD = 2 };

/* Beside it in the same word, of a consumer that offers its work: token.h. */
enum token_flag {
    TOKEN_OFFERED = 4,   /* the sleeping consumer's neighbour may do its work */
    TOKEN_HELD = 8,      /* it does so now */
    TOKEN_WANTED = 16,   /* the consumer is awake and waits for it on `asleep` */
    TOKEN_ORPHANED = 32, /* the holder was killed */
};

/* How long a futex wait lasts at most: after it the worker looks whether its gateway still lives.
 * PR_SET_PDEATHSIG ends a worker at once; this is the second line, well inside the promised 2 s. */
enum { WAIT_HEARTBEAT_NS = 500 * 1000 * 1000 };

/* What ended a wait. */
enum wait_end {
    WAIT_READY = 0,    /* what was waited for may be there: look again */
    WAIT_DOORBELL = 1, /* the gateway wants attention, or is gone */
};

/* any process */
void waiter_ring(struct waiter *waiter);
/* the neighbour, after it published what the owner waits for */
void waiter_wake(struct waiter *waiter, int wake_fd, struct stats_block *stats);
/* the owner: announce the sleep; then look once more; then waiter_sleep or waiter_cancel. A consumer
 * whose `kind` has TOKEN_OFFERED calls token_regain after either. */
uint32_t waiter_prepare(struct waiter *waiter, uint32_t kind);
void waiter_cancel(struct waiter *waiter);
enum wait_end waiter_sleep(struct waiter *waiter, uint32_t event, int channel_fd,
                           struct stats_block *stats);
/* The same for so long at most. */
enum wait_end waiter_sleep_for(struct waiter *waiter, uint32_t event, uint64_t most_ns,
                               int channel_fd, struct stats_block *stats);

static inline bool waiter_is_rung(struct waiter *waiter) {
    return atomic_load_explicit(&waiter->rung, memory_order_relaxed) != 0;
}

/* The owner takes the bell: call before draining the channel, so that a later ring is not lost. */
static inline bool waiter_take_bell(struct waiter *waiter) {
    return atomic_exchange(&waiter->rung, 0) != 0;
}

/* -- for token.c -- */

/* What an owner sleeps on is ended: `kind` is what its `asleep` was. */
void waiter_end_sleep(struct waiter *waiter, uint32_t kind, int wake_fd, struct stats_block *stats);
/* Whether the channel has a message, or has closed. */
bool channel_speaks(int channel_fd);

/* Blocks until `fd` reports one of `events` (POLLIN, POLLOUT) or the channel has a message.
 * timeout_ms < 0 waits for ever. Errors on fd count as ready: the next call on it shows them. */
enum wait_end wait_fd(int fd, short events, int timeout_ms, int channel_fd,
                      struct stats_block *stats);
/* The same for `fd` to be readable, or an eventfd, which is read then. */
enum wait_end wait_fd_or_eventfd(int fd, int event_fd, int timeout_ms, int channel_fd,
                                 struct stats_block *stats);

#endif
