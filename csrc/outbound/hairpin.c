#define _GNU_SOURCE
#include "outbound/hairpin.h"

#include "loop/switching.h"
#include "outbound/flooding.h"
#include "outbound/ring_in.h"
#include "packet/headers.h"

/* By the view alone: what the frame itself says is looked at in the copy that is made of it. */
static bool is_sound(const struct ring_view *view) {
    bool is_frame = view->length >= VNET_LENGTH + ETHERNET_HEADER_SIZE &&
                    view->length <= VNET_LENGTH + DEVICE_FRAME_MAX;
    bool has_way = view->link_id == HAIRPIN_TO_ALL ||
                   (view->link_id < N_PEER_SLOTS && view->link_id != view->slot);
    return is_frame && has_way && view->slot < N_PEER_SLOTS;
}

static void forward(struct tun_reader *reader, struct ring_record *record,
                    const struct ring_view *view, struct arrival *arrival) {
    struct frame frame = {view->payload, view->length - VNET_LENGTH, 0};
    if (!is_sound(view)) {
        frame_drop(reader, DROP_tun_reader_ring_corrupt, 1, 0);
        return;
    }
    if (view->link_id == HAIRPIN_TO_ALL) {
        flooding_begin(reader, &frame, (int)view->slot, arrival);
        return;
    }
    frame = ring_in_copy(reader, record, view);
    arrival->slot = (int)view->link_id;
    reader->origin = (int)view->slot;
    frame_forward_to(reader, record, &frame, arrival);
    reader->origin = ORIGIN_DEVICE;
}

enum step hairpin_burst(struct tun_reader *reader) {
    return ring_in_burst(reader, reader->loop.hairpin, forward);
}

enum step hairpin_wait(struct tun_reader *reader, int timeout_ms) {
    struct loop *loop = &reader->loop;
    if (!ring_prepare_poll(loop->hairpin, ring_first(loop->hairpin)))
        return STEP_MORE;
    enum step step = step_after_wait(wait_fd_or_eventfd(loop->device_fd, loop->hairpin->wake_fd,
                                                        timeout_ms, loop->channel_fd, loop->stats));
    waiter_cancel(&loop->hairpin->shared->consumer);
    return step;
}
