/* tun-writer: the last stage of the inbound direction.
 *
 *   1. wait for a record in the ring
 *   2. write it: virtio_net_hdr and frame, checked by the link-reader. The kernel runs the whole
 *      inner receive path inside this write, which is what this stage spends its time on
 *   3. count it as delivered or with the reason why not; release in batches
 *
 * It alone writes the device and alone consumes the inbound ring.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <unistd.h>

enum {
    /* Space goes back to the link-reader after so many bytes, not only when the ring is empty. */
    BURST_BYTES_MAX = 256 * 1024,
    BURST_FRAMES_MAX = 64,
};

enum write_end { WRITE_DONE, WRITE_DEVICE_GONE };

static enum write_end write_frame(struct loop *loop, const struct ring_record *record) {
    ssize_t n;
    do {
        n = write(loop->device_fd, ring_payload(record), record->length);
        stats_call(loop->stats, CALL_write);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        stats_count(loop->stats, record->n_packets, record->n_bytes);
        return WRITE_DONE;
    }
    switch (errno) {
    case EBADFD:
        loop->error = errno;
        stats_dropped(loop->stats, DROP_tun_writer_device_down, record->n_packets);
        return WRITE_DEVICE_GONE;
    case EIO:
        stats_dropped(loop->stats, DROP_tun_writer_device_down, record->n_packets);
        return WRITE_DONE;
    case EAGAIN:
    case ENOMEM:
    case ENOBUFS:
        stats_dropped(loop->stats, DROP_tun_writer_device_full, record->n_packets);
        return WRITE_DONE;
    default:
        stats_dropped(loop->stats, DROP_tun_writer_device_refused, record->n_packets);
        return WRITE_DONE;
    }
}

/* Returns the number of frames taken from the ring, or -1 when the device is gone. */
static int write_burst(struct loop *loop) {
    uint64_t cursor = ring_first(loop->ring);
    size_t n_bytes = 0;
    int n_frames = 0;
    bool corrupt = false;
    enum write_end end = WRITE_DONE;
    while (n_frames < BURST_FRAMES_MAX && n_bytes < BURST_BYTES_MAX && end == WRITE_DONE) {
        const struct ring_record *record = ring_peek(loop->ring, &cursor, &corrupt);
        if (record == NULL)
            break;
        stats_queue_delay(loop->stats, clock_now_ns() - record->enqueued_ns);
        end = write_frame(loop, record);
        n_bytes += record->length;
        n_frames++;
    }
    if (n_frames > 0) {
        stats_batch(loop->stats, (uint64_t)n_frames);
        ring_release(loop->ring, cursor, loop->stats);
    }
    if (corrupt) {
        stats_dropped(loop->stats, DROP_tun_writer_ring_corrupt, 1);
        ring_discard(loop->ring, loop->stats);
    }
    return end == WRITE_DEVICE_GONE ? -1 : n_frames;
}

enum loop_end tun_writer_loop(struct loop *loop) {
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        int n_frames = write_burst(loop);
        if (n_frames < 0)
            return LOOP_DEVICE_GONE;
        if (n_frames == 0)
            end =
                ring_wait_record(loop->ring, ring_first(loop->ring), loop->channel_fd, loop->stats);
    }
    return LOOP_DOORBELL;
}
