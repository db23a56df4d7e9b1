/* tun-writer: the last stage of the inbound direction.
 *
 *   1. wait for a record in the ring
 *   2. put plain packets of one flow together as long as they come one behind the other (gro.c);
 *      nothing waits for a packet that is not there yet
 *   3. write the frame: virtio_net_hdr and packet, checked by the link-reader. The kernel runs the
 *      whole inner receive path inside this write, which is what this stage spends its time on
 *   4. count it as delivered or with the reason why not (frame_writer.c); release in batches
 *
 * It alone writes the device and alone consumes the inbound ring.
 */
#define _GNU_SOURCE
#include "inbound/tun_writer.h"

#include <stdlib.h>

#include "inbound/frame_writer.h"

enum {
    /* Space goes back to the link-reader after so many bytes, not only when the ring is empty. */
    WRITE_BYTES_MAX = 256 * 1024,
    /* Several of the longest runs: where a burst ends, so does a super-packet. */
    WRITE_FRAMES_MAX = 4 * GRO_PACKETS_MAX,
};

static enum step next_step(struct tun_writer *writer);
static enum step write_burst(struct tun_writer *writer);
static enum step report_news(struct tun_writer *writer);

/* -- the loop ---------------------------------------------------------------------------------- */

enum loop_end tun_writer_loop(struct tun_writer *writer) {
    enum step step = STEP_MORE;
    while (step == STEP_MORE && !waiter_is_rung(writer->loop.self))
        step = next_step(writer);
    return loop_end_of(step);
}

static enum step next_step(struct tun_writer *writer) {
    struct loop *loop = &writer->loop;
    if (loop->n_news > 0)
        return report_news(writer);
    enum step step = write_burst(writer);
    return step == STEP_IDLE ? loop_wait_record(loop) : step;
}

static enum step write_burst(struct tun_writer *writer) {
    struct loop *loop = &writer->loop;
    uint64_t cursor = ring_first(loop->ring);
    uint64_t enqueued_ns = 0, delay_ns = 0; /* of what came at once, the first one's wait */
    size_t n_bytes = 0;
    int n_frames = 0;
    bool corrupt = false;
    struct frame_run run;
    run.group.n_packets = 0;
    while (n_frames < WRITE_FRAMES_MAX && n_bytes < WRITE_BYTES_MAX && loop->error == 0) {
        const struct ring_view *record = ring_peek(loop->ring, &cursor, &corrupt);
        if (record == NULL)
            break;
        if (record->enqueued_ns != enqueued_ns) {
            enqueued_ns = record->enqueued_ns;
            delay_ns = clock_now_ns() - enqueued_ns;
        }
        stats_queue_delay(loop->stats, delay_ns);
        frame_run_add(writer, &run, record);
        n_bytes += record->length;
        n_frames++;
    }
    frame_run_end(writer, &run);
    if (n_frames > 0) {
        stats_batch(loop->stats, (uint64_t)n_frames);
        ring_release(loop->ring, cursor, loop->stats);
    }
    if (corrupt) {
        stats_dropped(loop->stats, DROP_tun_writer_ring_corrupt, 1);
        ring_discard(loop->ring, loop->stats);
    }
    if (loop->error != 0)
        return STEP_DEVICE_GONE;
    return n_frames > 0 ? STEP_MORE : STEP_IDLE;
}

static enum step report_news(struct tun_writer *writer) {
    unsigned i = 0;
    while (!writer->groups[i / 2][i % 2].is_news)
        i++;
    return loop_report_news(&writer->loop, i / 2, 0, &writer->groups[i / 2][i % 2],
                            i % 2 == 0 ? REFUSED_TCP_GROUPS : REFUSED_UDP_GROUPS);
}

/* -- life -------------------------------------------------------------------------------------- */

struct loop *tun_writer_new(const struct loop *common) {
    struct tun_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return NULL;
    writer->loop = *common;
    return &writer->loop;
}

void tun_writer_free(struct tun_writer *writer) {
    free(writer);
}
