/* tun-reader: the first stage of the outbound direction.
 *
 *   1. wait for ring space for one longest frame, then for the device
 *   2. read frames straight into the ring, behind room for their outer headers
 *   3. find the peer by the destination address; lay out the message around each frame where it
 *      lies, or split it, and seal in place (frame.c)
 *   4. publish the burst at once
 *
 * It alone reads the device queue, alone holds the sending keys and alone produces into the
 * outbound ring.
 */
#define _GNU_SOURCE
#include "outbound/frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    /* A burst ends here even if the device has more: the link-writer should start meanwhile. */
    READ_FRAMES_MAX = 64,
    READ_BYTES_MAX = 256 * 1024,

    /* How long the device's queue holds packets for a dialling side without a session: it covers a
     * worker's restart and the re-dial, and what is older is of little use to TCP. */
    HOLD_MS = 1000,
    STAGING_LOOK_MS = 500,
};

enum burst_end { BURST_DRAINED, BURST_LIMIT, BURST_RING_FULL, BURST_DEVICE_GONE };

/* -- bursts ------------------------------------------------------------------------------------ */

static enum burst_end read_burst(struct loop *loop, size_t *n_frames) {
    uint64_t now_ns = clock_now_ns(), boottime_ns = clock_boottime_ns();
    size_t n_bytes = 0;
    /* A session that is wanted is told before the next one can be. */
    while (*n_frames < READ_FRAMES_MAX && n_bytes < READ_BYTES_MAX && loop->wanted_slot < 0) {
        struct ring_record *record =
            outbound_split(loop) ? ring_reserve(loop->ring, OUTBOUND_SPACE) : NULL;
        if (record == NULL)
            return BURST_RING_FULL;
        ssize_t n =
            read(loop->device_fd, outbound_target(loop, record), VNET_LENGTH + DEVICE_FRAME_MAX);
        stats_call(loop->stats, CALL_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            loop->error = errno;
            /* EIO: the interface is down; ppoll sleeps until it is up again */
            return errno == EAGAIN || errno == EIO ? BURST_DRAINED : BURST_DEVICE_GONE;
        }
        if (n < VNET_LENGTH)
            continue; /* not seen from any kernel: a frame is never shorter than its header */
        n_bytes += outbound_take(loop, record, (size_t)n, now_ns, boottime_ns);
        ++*n_frames;
    }
    return BURST_LIMIT;
}

static enum burst_end pass_burst(struct loop *loop) {
    size_t n_frames = 0;
    bool has_room = loop->staging->n == 0 || outbound_unstage(loop);
    enum burst_end end = has_room ? read_burst(loop, &n_frames) : BURST_RING_FULL;
    if (n_frames > 0)
        stats_batch(loop->stats, n_frames);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
    return end;
}

/* -- waiting for a session --------------------------------------------------------------------- */

void loop_hold_without_session(struct loop *loop) {
    loop->holds = true;
}

/* For how many more ms the device is left alone because the only session is in the making. */
static int hold_ms(struct loop *loop) {
    struct loop_link *link = loop->links[0];
    if (!loop->holds || (link != NULL && link->sending != NULL)) {
        loop->held_since_ns = 0;
        return 0;
    }
    uint64_t now_ns = clock_now_ns();
    if (loop->held_since_ns == 0)
        loop->held_since_ns = now_ns;
    uint64_t held_ms = (now_ns - loop->held_since_ns) / 1000000;
    return held_ms < HOLD_MS ? (int)(HOLD_MS - held_ms) : 0;
}

/* What waits in the device's queue asks for a session; nobody else would. */
static enum wait_end hold(struct loop *loop, int timeout_ms) {
    struct pollfd device = {.fd = loop->device_fd, .events = POLLIN};
    if (poll(&device, 1, 0) > 0)
        outbound_want_session(loop, 0, clock_now_ns());
    if (loop->wanted_slot >= 0)
        return WAIT_READY;
    bool is_asked = device.revents != 0; /* and once is enough for a while */
    return wait_fd(is_asked ? -1 : loop->device_fd, POLLIN, timeout_ms, loop->channel_fd,
                   loop->stats);
}

/* What waits is looked at now and then, since it must not wait for ever. */
static int staging_timeout_ms(const struct loop *loop) {
    return loop->staging->n > 0 ? STAGING_LOOK_MS : -1;
}

static enum loop_end report_wanted(struct loop *loop) {
    unsigned slot = (unsigned)loop->wanted_slot;
    loop->wanted_slot = -1;
    return loop_report(loop, slot, EVENT_NO_SESSION, 0);
}

enum loop_end tun_reader_loop(struct loop *loop) {
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        int timeout_ms = hold_ms(loop);
        if (loop->wanted_slot >= 0)
            return report_wanted(loop);
        if (timeout_ms > 0) {
            end = hold(loop, timeout_ms);
            continue;
        }
        switch (pass_burst(loop)) {
        case BURST_LIMIT:
            break;
        case BURST_DRAINED:
            if (loop->wanted_slot < 0)
                end = wait_fd(loop->device_fd, POLLIN, staging_timeout_ms(loop), loop->channel_fd,
                              loop->stats);
            break;
        case BURST_RING_FULL:
            end = ring_wait_space(loop->ring, OUTBOUND_SPACE, loop->channel_fd, loop->stats);
            break;
        case BURST_DEVICE_GONE:
            return LOOP_DEVICE_GONE;
        }
    }
    return LOOP_DOORBELL;
}
