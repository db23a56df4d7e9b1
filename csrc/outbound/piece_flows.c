#include "outbound/piece_flows.h"

#include <string.h>

#include "packet/byteorder.h"
#include "packet/headers.h"

/* FNV-1a, by words. */
static uint32_t add_words(uint32_t hash, const uint8_t *bytes, size_t length) {
    uint32_t word;
    for (size_t i = 0; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * 16777619u;
    }
    return hash;
}

static uint32_t flow_of(unsigned slot, const struct gso_split *split) {
    const uint8_t *ip = split->frame + split->ip;
    size_t from = split->is_ipv4 ? IPV4_SOURCE_OFFSET : IPV6_SOURCE_OFFSET;
    uint32_t hash = add_words(2166136261u ^ slot, ip + from, split->is_ipv4 ? 8 : 32);
    hash = add_words(hash, split->frame + split->transport, PORTS_SIZE);
    return hash ^ hash >> 15;
}

static void note_loss(struct piece_flow *place, uint64_t now_ns) {
    if (now_ns < place->split_until_ns)
        return;
    if (now_ns >= place->split_until_ns + PIECE_FORGET_NS)
        place->n_losses = 0;
    place->split_until_ns = now_ns + (PIECE_SPLIT_NS << place->n_losses);
    if (place->n_losses < PIECE_LOSSES_MAX)
        place->n_losses++;
}

bool piece_flows_may(struct piece_flows *flows, unsigned slot, const struct gso_split *split,
                     uint64_t now_ns) {
    uint32_t flow = flow_of(slot, split);
    struct piece_flow *place = &flows->places[flow % PIECE_FLOWS];
    uint32_t begin = be32_read(split->frame + split->transport + TCP_SEQUENCE_OFFSET);
    uint32_t end = begin + (uint32_t)(split->length - split->header_length);
    if (place->flow != flow) {
        place->flow = flow;
        place->next = begin;
    }
    if ((int32_t)(begin - place->next) < 0)
        note_loss(place, now_ns);
    if ((int32_t)(end - place->next) > 0)
        place->next = end;
    return now_ns >= place->split_until_ns;
}
