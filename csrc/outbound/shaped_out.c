#define _GNU_SOURCE
#include "outbound/shaped_out.h"

#include <string.h>

bool shaped_out_take(struct tun_reader *reader, const struct frame *frame,
                     const struct arrival *arrival) {
    unsigned slot = (unsigned)arrival->slot;
    struct shaped shaped = shaping_take(&reader->shaping, slot, reader->loop.mode, frame->vnet,
                                        frame->length, arrival->now_ns);
    if (shaped.n_dropped == 0)
        return shaped.passes;
    frame_drop(reader, shaped.is_cut_off ? DROP_tun_reader_quota : DROP_tun_reader_rate_limit,
               shaped.n_dropped, shaped.dropped_bytes);
    stats_add(&reader->loop.peers->by_tun_reader[slot].limited_outbound_packets, shaped.n_dropped);
    return false;
}

/* What waits goes to no other session than its peer's, and to no other peer. */
static void forward(struct tun_reader *reader, struct ring_record *record,
                    const struct queue_entry *entry, const uint8_t *bytes,
                    const struct arrival *arrival) {
    struct frame frame = {frame_target(reader, record), entry->length - VNET_LENGTH, 0};
    unsigned slot = (unsigned)arrival->slot;
    if (!frame_link_is_open(reader, reader->links[slot], arrival->boottime_ns)) {
        frame_drop(reader, DROP_tun_reader_no_session, entry->n_packets, frame.length);
        stats_add(&reader->loop.peers->by_tun_reader[slot].no_session_packets, entry->n_packets);
        return;
    }
    memcpy(frame.vnet, bytes, entry->length);
    frame_forward_shaped(reader, record, &frame, arrival);
}

bool shaped_out_release(struct tun_reader *reader) {
    struct shaping *shaping = &reader->shaping;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    struct queue_entry entry;
    const uint8_t *bytes;
    for (unsigned i = 0; i < shaping->n_holding;) {
        /* First: it goes on with a flood, which may move what these queues hold. */
        struct ring_record *record = tun_reader_reserve(reader);
        if (record == NULL)
            return false;
        if (!shaping_first(shaping, i, arrival.now_ns, &entry, &bytes)) {
            i++;
            continue;
        }
        arrival.slot = shaping->holding[i];
        forward(reader, record, &entry, bytes, &arrival);
        shaping_pop(shaping, i, arrival.now_ns);
    }
    return true;
}
