#define _GNU_SOURCE
#include "loop/loop.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "loop/reconcile.h"
#include "session/session.h"

enum loop_end loop_end_of(enum step step) {
    switch (step) {
    case STEP_EVENT:
    case STEP_LINK_ENDED:
        return LOOP_EVENT;
    case STEP_DEVICE_GONE:
        return LOOP_DEVICE_GONE;
    default:
        return LOOP_DOORBELL;
    }
}

struct link_format loop_bounded_format(const struct loop *loop, const struct link_format *format) {
    struct link_format bounded = *format;
    size_t longest = loop->wire == WIRE_WIREGUARD ? SEALED_CONTENT_MAX : MESSAGE_MAX;
    if (bounded.message_max > longest)
        bounded.message_max = longest;
    return bounded;
}

/* -- waiting ----------------------------------------------------------------------------------- */

/* On the channel and the ring's eventfd, which need no heartbeat: an idle worker never wakes. */
static enum wait_end sleep_long(struct loop *loop) {
    struct ring *ring = loop->ring;
    enum wait_end end = WAIT_READY;
    eventfd_t count;
    if (ring_prepare_poll(ring, ring_first(ring))) {
        end = wait_fd(ring->wake_fd, POLLIN, -1, loop->channel_fd, loop->stats);
        if (eventfd_read(ring->wake_fd, &count) < 0 && end == WAIT_READY)
            pace_refused(); /* it stays readable */
    }
    if (ring->is_offered)
        ring_regain(ring, loop->channel_fd);
    else
        waiter_cancel(loop->self);
    return end;
}

/* On the futex, whose wake-up is the quicker one, until it has slept for a whole heartbeat. */
static enum wait_end sleep_short(struct loop *loop) {
    struct ring *ring = loop->ring;
    uint64_t cursor = ring_first(ring);
    enum wait_end end = ring_wait_record(ring, cursor, loop->channel_fd, loop->stats);
    ring->sleeps_long = end == WAIT_READY && ring->wake_fd >= 0 && ring_used_bytes(ring) == 0;
    return end;
}

enum step loop_wait_record(struct loop *loop) {
    struct ring *ring = loop->ring;
    ring->is_offered = loop->hands_over && loop->capture == NULL && loop->n_counted_already == 0;
    enum wait_end end = ring->sleeps_long ? sleep_long(loop) : sleep_short(loop);
    if (ring_used_bytes(ring) > 0)
        ring->sleeps_long = false;
    ring->is_offered = false;
    if (ring->is_orphaned)
        reconcile(loop, 0);
    return step_after_wait(end);
}

/* -- descriptors ------------------------------------------------------------------------------- */

int loop_watch(const struct loop *loop, int fd, uint32_t events, uint32_t what) {
    struct epoll_event event = {.events = events, .data.u32 = what};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void loop_unwatch(const struct loop *loop, int fd) {
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* -- reports ----------------------------------------------------------------------------------- */

enum step loop_report(struct loop *loop, unsigned slot, uint32_t link_id, enum event_kind kind,
                      int error) {
    loop->event.kind = kind;
    loop->event.slot = slot;
    loop->event.link_id = link_id;
    loop->event.error = error;
    return STEP_EVENT;
}

void loop_note_news(struct loop *loop, struct refusals *refusals) {
    /* Off and on again before the gateway was informed: nothing to report. */
    loop->n_news += refusals->is_news ? -1u : 1u;
    refusals->is_news = !refusals->is_news;
}

enum step loop_report_news(struct loop *loop, unsigned slot, uint32_t link_id,
                           struct refusals *refusals, enum refusal_kind kind) {
    loop_note_news(loop, refusals);
    loop->event.index = kind;
    return loop_report(loop, slot, link_id, EVENT_REFUSAL,
                       refusals->off_until_ns != 0 ? refusals->error : 0);
}

/* -- clocks ------------------------------------------------------------------------------------ */

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_boottime_ns(void) {
    return clock_ns(CLOCK_BOOTTIME);
}
