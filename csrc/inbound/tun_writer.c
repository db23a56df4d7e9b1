/* tun-writer: the last stage of the inbound direction.
 *
 *   1. wait for a record in the ring
 *   2. put plain packets of one flow together as long as they stand one behind the other (gro.c);
 *      nothing waits for a packet that is not there yet
 *   3. write the frame: virtio_net_hdr and packet, checked by the link-reader. The kernel runs the
 *      whole inner receive path inside this write, which is what this stage spends its time on
 *   4. count it as delivered or with the reason why not (frame_writer.c); release in batches
 *
 * It alone writes the device and alone consumes the inbound ring.
 */
#define _GNU_SOURCE
#include "inbound/frame_writer.h"

enum {
    /* Space goes back to the link-reader after so many bytes, not only when the ring is empty. */
    WRITE_BYTES_MAX = 256 * 1024,
    /* Several of the longest runs: where a burst ends, so does a super-packet. */
    WRITE_FRAMES_MAX = 4 * GRO_PACKETS_MAX,
};

/* Returns the number of frames taken from the ring, or -1 when the device is gone. */
static int write_burst(struct loop *loop) {
    uint64_t cursor = ring_first(loop->ring);
    size_t n_bytes = 0;
    int n_frames = 0;
    bool corrupt = false;
    struct frame_run run;
    run.group.n_packets = 0;
    while (n_frames < WRITE_FRAMES_MAX && n_bytes < WRITE_BYTES_MAX && loop->error == 0) {
        const struct ring_view *record = ring_peek(loop->ring, &cursor, &corrupt);
        if (record == NULL)
            break;
        stats_queue_delay(loop->stats, clock_now_ns() - record->enqueued_ns);
        frame_run_take(loop, &run, record);
        n_bytes += record->length;
        n_frames++;
    }
    frame_run_end(loop, &run);
    if (n_frames > 0) {
        stats_batch(loop->stats, (uint64_t)n_frames);
        ring_release(loop->ring, cursor, loop->stats);
    }
    if (corrupt) {
        stats_dropped(loop->stats, DROP_tun_writer_ring_corrupt, 1);
        ring_discard(loop->ring, loop->stats);
    }
    return loop->error != 0 ? -1 : n_frames;
}

static enum loop_end report_news(struct loop *loop) {
    unsigned i = 0;
    while (!loop->groups[i / 2][i % 2].is_news)
        i++;
    return loop_report_news(loop, i / 2, &loop->groups[i / 2][i % 2],
                            i % 2 == 0 ? OFFLOAD_TCP_GROUPS : OFFLOAD_UDP_GROUPS);
}

enum loop_end tun_writer_loop(struct loop *loop) {
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        if (loop->n_news > 0)
            return report_news(loop);
        int n_frames = write_burst(loop);
        if (n_frames < 0)
            return LOOP_DEVICE_GONE;
        if (n_frames == 0)
            end =
                ring_wait_record(loop->ring, ring_first(loop->ring), loop->channel_fd, loop->stats);
    }
    return LOOP_DOORBELL;
}
