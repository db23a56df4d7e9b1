/* Only what one write does: a frame that the device refuses, for whatever reason, stays in the ring for
 * the tun-writer, which knows what to do about it. Nothing is coalesced, so nothing need be known of
 * what the kernel refuses.
 */
#define _GNU_SOURCE
#include "inbound/write_in_place.h"

#include <unistd.h>

#include "shared/token.h"

static bool write_frame(struct link_reader *reader, const struct ring_view *record) {
    struct loop *loop = &reader->loop;
    ring_begin(&loop->writers_end, record->end);
    ssize_t n = write(loop->device_fd, record->payload, record->length);
    stats_call(loop->stats, CALL_write);
    if (n < 0)
        return false;
    stats_queue_delay(loop->neighbour_stats, clock_now_ns() - record->enqueued_ns);
    stats_count(loop->neighbour_stats, record->n_packets, record->n_bytes);
    stats_add(&loop->stats->counters[COUNTER_in_place], record->n_packets);
    return true;
}

static void write_batch(struct link_reader *reader) {
    struct loop *loop = &reader->loop;
    struct ring *end = &loop->writers_end;
    uint64_t cursor = ring_first(end), done = cursor;
    bool corrupt = false;
    uint64_t n_frames = 0;
    const struct ring_view *record;
    while ((record = ring_peek(end, &cursor, &corrupt)) != NULL && write_frame(reader, record)) {
        done = cursor;
        n_frames++;
    }
    if (n_frames > 0)
        stats_batch(loop->neighbour_stats, n_frames);
    ring_begin(end, done); /* what was refused has not been done */
    ring_release(end, done, loop->stats);
}

void write_in_place_publish(struct link_reader *reader) {
    struct loop *loop = &reader->loop;
    if (!loop->hands_over) {
        ring_publish(loop->ring, loop->stats);
        return;
    }
    if (!ring_publish_and_take(loop->ring, IN_PLACE_BYTES_MAX, &loop->writers_end, loop->stats))
        return;
    write_batch(reader);
    ring_give_back(loop->ring, &loop->writers_end, loop->stats);
}
