#define _GNU_SOURCE
#include "outbound/ring_in.h"

#include <string.h>

enum {
    /* Then the device has its turn; as many as of its frames in one burst. */
    BURST_MAX = 64,
};

enum step ring_in_burst(struct tun_reader *reader, struct ring *ring, ring_in_forward *forward) {
    struct loop *loop = &reader->loop;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    uint64_t cursor = ring_first(ring);
    enum step step = STEP_MORE;
    bool corrupt = false;
    int n = 0;
    for (; n < BURST_MAX && step == STEP_MORE && reader->wanted.slot < 0; n++) {
        struct ring_record *record = tun_reader_reserve(reader);
        const struct ring_view *view = NULL;
        if (record == NULL)
            step = reader->wanted.slot < 0 ? STEP_RING_FULL : STEP_MORE;
        else if ((view = ring_peek(ring, &cursor, &corrupt)) == NULL)
            step = STEP_IDLE;
        if (view == NULL)
            break;
        forward(reader, record, view, &arrival);
    }
    if (ring_has_unpublished(loop->ring)) {
        ring_begin(ring, cursor); /* another tun-reader would seal it under other counters */
        ring_publish(loop->ring, loop->stats);
    }
    if (n > 0)
        ring_release(ring, cursor, loop->stats);
    if (corrupt) {
        frame_drop(reader, DROP_tun_reader_ring_corrupt, 1, 0);
        ring_discard(ring, loop->stats);
    }
    return step;
}

struct frame ring_in_copy(struct tun_reader *reader, struct ring_record *record,
                          const struct ring_view *view) {
    struct frame frame = {frame_target(reader, record), view->length - VNET_LENGTH, 0};
    memcpy(frame.vnet, view->payload, view->length);
    return frame;
}
