/* link-writer: the last stage of the outbound direction.
 *
 *   1. wait for a record in the ring
 *   2. gather as many as one writev takes; they are messages with their length prefix already
 *   3. write; count and release what the socket took whole, remember how far the next one got
 *   4. when the socket is full, wait for it; the queue stands in the ring meanwhile
 *
 * Without a link a packet waits NO_LINK_WAIT_NS at most, so that a reconnect in that time loses
 * nothing, and is then dropped. It alone consumes the outbound ring and alone writes the socket.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>

enum {
    GATHER_RECORDS_MAX = 256,
    GATHER_BYTES_MAX = 1024 * 1024,
    /* WireGuard holds 128 packets a peer while it has no session; we hold by age, since a frame
     * here may be 64 KiB. One second covers the restart of any worker and the re-dial. */
    NO_LINK_WAIT_MS = 1000,
    NO_LINK_LOOK_MS = 100,
};

/* -- without a link ---------------------------------------------------------------------------- */

static void drop_expired(struct loop *loop) {
    uint64_t cursor = ring_first(loop->ring), released = cursor;
    uint64_t now_ns = clock_now_ns();
    bool corrupt = false;
    const struct ring_record *record;
    while ((record = ring_peek(loop->ring, &cursor, &corrupt)) != NULL &&
           record->enqueued_ns + NO_LINK_WAIT_MS * 1000000ull < now_ns) {
        stats_dropped(loop->stats, DROP_link_writer_no_link, record->n_packets);
        released = cursor;
    }
    if (released != ring_first(loop->ring))
        ring_release(loop->ring, released, loop->stats);
}

static enum wait_end idle_without_link(struct loop *loop) {
    drop_expired(loop);
    if (ring_used_bytes(loop->ring) == 0)
        return ring_wait_record(loop->ring, ring_first(loop->ring), loop->channel_fd, loop->stats);
    return wait_fd(-1, 0, NO_LINK_LOOK_MS, loop->channel_fd, loop->stats);
}

/* -- with a link ------------------------------------------------------------------------------- */

static int gather(struct loop *loop, struct iovec iov[GATHER_RECORDS_MAX], bool *corrupt) {
    uint64_t cursor = ring_first(loop->ring);
    size_t n_bytes = 0, skip = loop->n_sent;
    int n = 0;
    while (n < GATHER_RECORDS_MAX && n_bytes < GATHER_BYTES_MAX) {
        const struct ring_record *record = ring_peek(loop->ring, &cursor, corrupt);
        if (record == NULL)
            break;
        iov[n++] = (struct iovec){ring_payload(record) + skip, record->length - skip};
        n_bytes += record->length - skip;
        skip = 0;
    }
    return n;
}

/* The socket took `n` bytes more: counts the records that are now out whole and releases them. */
static void settle(struct loop *loop, size_t n) {
    uint64_t cursor = ring_first(loop->ring), released = cursor;
    uint64_t now_ns = clock_now_ns(), n_frames = 0;
    bool corrupt = false;
    const struct ring_record *record;
    loop->n_sent += n;
    while (loop->n_sent > 0 && (record = ring_peek(loop->ring, &cursor, &corrupt)) != NULL &&
           loop->n_sent >= record->length) {
        loop->n_sent -= record->length;
        stats_count(loop->stats, record->n_packets, record->n_bytes);
        stats_queue_delay(loop->stats, now_ns - record->enqueued_ns);
        released = cursor;
        n_frames++;
    }
    if (n_frames > 0) {
        stats_batch(loop->stats, n_frames);
        ring_release(loop->ring, released, loop->stats);
    }
}

static enum wait_end empty_corrupt_ring(struct loop *loop) {
    stats_dropped(loop->stats, DROP_link_writer_ring_corrupt, 1);
    ring_discard(loop->ring, loop->stats);
    return WAIT_READY;
}

enum loop_end link_writer_loop(struct loop *loop) {
    struct iovec iov[GATHER_RECORDS_MAX];
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        bool corrupt = false;
        if (loop->link_fd < 0) {
            end = idle_without_link(loop);
            continue;
        }
        int n_records = gather(loop, iov, &corrupt);
        if (n_records == 0) {
            end = corrupt ? empty_corrupt_ring(loop)
                          : ring_wait_record(loop->ring, ring_first(loop->ring), loop->channel_fd,
                                             loop->stats);
            continue;
        }
        ssize_t n = writev(loop->link_fd, iov, n_records);
        stats_call(loop->stats, CALL_writev);
        if (n >= 0) {
            settle(loop, (size_t)n);
        } else if (errno == EAGAIN) {
            end = wait_fd(loop->link_fd, POLLOUT, -1, loop->channel_fd, loop->stats);
        } else if (errno != EINTR) {
            loop->error = errno;
            return LOOP_LINK_ERROR;
        }
    }
    return LOOP_DOORBELL;
}
