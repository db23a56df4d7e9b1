#define _GNU_SOURCE
#include "shared/wait.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "shared/futex.h"
#include "shared/pace.h"

void waiter_ring(struct waiter *waiter) {
    atomic_store(&waiter->rung, 1);
    /* After `rung`: an owner that read the old `event` and no bell finds the word changed and does
     * not fall asleep. */
    atomic_fetch_add(&waiter->event, 1);
    futex_wake_all(&waiter->event);
}

void waiter_wake(struct waiter *waiter, int wake_fd, struct stats_block *stats) {
    /* Pairs with the fence in waiter_prepare: either this load sees the owner asleep, or the
     * owner's second look sees what was published before this call. */
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t word = atomic_load_explicit(&waiter->asleep, memory_order_relaxed);
    if (word == WAITER_AWAKE || (word & TOKEN_ORPHANED) != 0) /* the gateway has woken it */
        return;
    waiter_end_sleep(waiter, atomic_exchange(&waiter->asleep, WAITER_AWAKE), wake_fd, stats);
}

void waiter_end_sleep(struct waiter *waiter, uint32_t kind, int wake_fd,
                      struct stats_block *stats) {
    switch (kind & ~(uint32_t)TOKEN_OFFERED) {
    case WAITER_ON_FUTEX:
        atomic_fetch_add(&waiter->event, 1);
        futex_wake_all(&waiter->event);
        stats_call(stats, CALL_futex_wake);
        break;
    case WAITER_ON_EVENTFD:
        /* Else it sleeps on, so the next one is to try again: nothing else would. It is awake at worst,
         * and is woken once for nothing. */
        if (eventfd_write(wake_fd, 1) < 0)
            atomic_store(&waiter->asleep, WAITER_ON_EVENTFD);
        break;
    default:
        break; /* woken already, it only has not run yet */
    }
}

uint32_t waiter_prepare(struct waiter *waiter, uint32_t kind) {
    uint32_t event = atomic_load(&waiter->event);
    /* release: what is offered comes with all that was done with it (partner: token_take) */
    atomic_store_explicit(&waiter->asleep, kind, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in waiter_wake */
    return event;
}

void waiter_cancel(struct waiter *waiter) {
    uint32_t word = atomic_load_explicit(&waiter->asleep, memory_order_relaxed);
    if ((word & TOKEN_OFFERED) == 0) /* else the neighbour may have it: token_regain */
        atomic_store_explicit(&waiter->asleep, WAITER_AWAKE, memory_order_relaxed);
}

bool channel_speaks(int channel_fd) {
    struct pollfd channel = {.fd = channel_fd, .events = POLLIN};
    return ppoll(&channel, 1, &(struct timespec){0}, NULL) > 0;
}

enum wait_end waiter_sleep(struct waiter *waiter, uint32_t event, int channel_fd,
                           struct stats_block *stats) {
    return waiter_sleep_for(waiter, event, WAIT_HEARTBEAT_NS, channel_fd, stats);
}

enum wait_end waiter_sleep_for(struct waiter *waiter, uint32_t event, uint64_t most_ns,
                               int channel_fd, struct stats_block *stats) {
    if (waiter_is_rung(waiter)) {
        waiter_cancel(waiter);
        return WAIT_DOORBELL;
    }
    stats_call(stats, CALL_futex_wait);
    long slept = futex_wait(&waiter->event, event, most_ns);
    if (slept != 0 && errno != ETIMEDOUT && atomic_load(&waiter->event) == event)
        pace_rest(); /* it neither slept nor had a reason not to */
    waiter_cancel(waiter);
    /* Only a wait that ran its whole time asks the channel: a bell that was rung says so itself. */
    if (waiter_is_rung(waiter) || (slept != 0 && channel_speaks(channel_fd)))
        return WAIT_DOORBELL;
    return WAIT_READY;
}

/* The first of `fds` is the channel. */
static enum wait_end poll_all(struct pollfd *fds, nfds_t n, int timeout_ms,
                              struct stats_block *stats) {
    struct timespec timeout = {.tv_sec = timeout_ms / 1000,
                               .tv_nsec = (timeout_ms % 1000) * 1000000L};
    stats_call(stats, CALL_ppoll);
    int n_ready = ppoll(fds, n, timeout_ms < 0 ? NULL : &timeout, NULL);
    if (n_ready < 0)
        pace_rest();
    return n_ready > 0 && fds[0].revents != 0 ? WAIT_DOORBELL : WAIT_READY;
}

enum wait_end wait_fd(int fd, short events, int timeout_ms, int channel_fd,
                      struct stats_block *stats) {
    struct pollfd fds[2] = {{.fd = channel_fd, .events = POLLIN}, {.fd = fd, .events = events}};
    return poll_all(fds, 2, timeout_ms, stats);
}

enum wait_end wait_fd_or_eventfd(int fd, int event_fd, int timeout_ms, int channel_fd,
                                 struct stats_block *stats) {
    struct pollfd fds[3] = {{.fd = channel_fd, .events = POLLIN},
                            {.fd = fd, .events = POLLIN},
                            {.fd = event_fd, .events = POLLIN}};
    enum wait_end end = poll_all(fds, 3, timeout_ms, stats);
    eventfd_t count;
    if ((fds[2].revents & POLLIN) != 0)
        eventfd_read(event_fd, &count);
    return end;
}
