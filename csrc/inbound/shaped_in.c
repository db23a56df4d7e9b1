#define _GNU_SOURCE
#include "inbound/shaped_in.h"

#include <string.h>

#include "inbound/message_in.h"

bool shaped_in_take(struct link_reader *reader, unsigned slot, const uint8_t *vnet_bytes,
                    size_t length, uint64_t now_ns) {
    struct shaped shaped =
        shaping_take(&reader->shaping, slot, reader->loop.mode, vnet_bytes, length, now_ns);
    if (shaped.n_dropped == 0)
        return shaped.passes;
    stats_dropped(reader->loop.stats,
                  shaped.is_cut_off ? DROP_link_reader_quota : DROP_link_reader_rate_limit,
                  shaped.n_dropped);
    stats_add(&reader->loop.peers->slots[slot].limited_inbound_packets, shaped.n_dropped);
    return false;
}

void shaped_in_release(struct link_reader *reader) {
    struct shaping *shaping = &reader->shaping;
    uint64_t now_ns = clock_now_ns();
    struct queue_entry entry;
    const uint8_t *bytes;
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
        unsigned slot = shaping->holding[i];
        shaping_pop(shaping, i, now_ns);
        message_commit(reader, slot, record, vnet_bytes, entry.n_packets, entry.length, now_ns);
    }
    message_publish(reader, 0);
}
