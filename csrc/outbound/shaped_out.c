#define _GNU_SOURCE
#include "outbound/shaped_out.h"

#include <string.h>

#include "outbound/splitting.h"

bool shaped_out_take(struct tun_reader *reader, const struct frame *frame,
                     const struct arrival *arrival) {
    unsigned slot = (unsigned)arrival->slot;
    struct shaped shaped = shaping_take(&reader->shaping, slot, reader->loop.mode, frame->vnet,
                                        frame->length, arrival->now_ns);
    if (shaped.n_dropped == 0)
        return shaped.passes;
    frame_drop(reader, shaped.is_cut_off ? DROP_tun_reader_quota : DROP_tun_reader_rate_limit,
               shaped.n_dropped, shaped.dropped_bytes);
    stats_add(&reader->loop.peers->slots[slot].limited_outbound_packets, shaped.n_dropped);
    return false;
}

bool shaped_out_release(struct tun_reader *reader) {
    struct shaping *shaping = &reader->shaping;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns()};
    struct queue_entry entry;
    const uint8_t *bytes;
    for (unsigned i = 0; i < shaping->n_holding;) {
        if (!shaping_first(shaping, i, arrival.now_ns, &entry, &bytes)) {
            i++;
            continue;
        }
        struct ring_record *record =
            splitting_continue(reader) ? ring_reserve(reader->loop.ring, FRAME_SPACE) : NULL;
        if (record == NULL)
            return false;
        memcpy(frame_target(reader, record), bytes, entry.length);
        shaping_pop(shaping, i, arrival.now_ns);
        frame_forward_shaped(reader, record, entry.length, &arrival);
    }
    return true;
}
