#define _GNU_SOURCE
#include "inbound/shaped_in.h"

#include <string.h>

#include "inbound/message_in.h"
#include "inbound/pieces_in.h"

bool shaped_in_take(struct link_reader *reader, unsigned slot,
                    const struct message_inbound *inbound, uint64_t now_ns) {
    uint8_t *vnet_bytes = inbound->frame - VNET_LENGTH;
    vnet_write(&inbound->vnet, vnet_bytes);
    struct shaped shaped = shaping_take(&reader->shaping, slot, reader->loop.mode, vnet_bytes,
                                        inbound->length, now_ns);
    if (shaped.n_dropped == 0)
        return shaped.passes;
    enum stats_drop reason =
        shaped.is_cut_off ? DROP_link_reader_quota : DROP_link_reader_rate_limit;
    stats_dropped(reader->loop.stats, reason, shaped.n_dropped);
    capture_drop(reader->loop.capture, reason);
    stats_add(&reader->loop.peers->by_link_reader[slot].limited_inbound_packets, shaped.n_dropped);
    return false;
}

void shaped_in_release(struct link_reader *reader) {
    struct shaping *shaping = &reader->shaping;
    uint64_t now_ns = clock_now_ns();
    struct queue_entry entry;
    const uint8_t *bytes;
    pieces_in_leave(reader);
    for (unsigned i = 0; i < shaping->n_holding;) {
        if (!shaping_first(shaping, i, now_ns, &entry, &bytes)) {
            i++;
            continue;
        }
        struct ring_record *record = ring_reserve(reader->loop.ring, sizeof *record + entry.length);
        if (record == NULL)
            break;
        uint8_t *vnet_bytes = (uint8_t *)record + sizeof *record;
        memcpy(vnet_bytes, bytes, entry.length);
        struct message_inbound inbound = {
            .vnet = vnet_read(vnet_bytes),
            .frame = vnet_bytes + VNET_LENGTH,
            .length = entry.length - VNET_LENGTH,
            .n_packets = (int)entry.n_packets,
        };
        unsigned slot = shaping->holding[i];
        shaping_pop(shaping, i, now_ns);
        message_deliver(reader, slot, record, &inbound, now_ns);
    }
    message_publish(reader, 0);
}
