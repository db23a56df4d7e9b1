#define _GNU_SOURCE
#include "inbound/switch_in.h"

#include <string.h>

#include "inbound/message_in.h"
#include "loop/switching.h"
#include "packet/mac_key.h"

enum way { WAY_DEVICE, WAY_PEER, WAY_ALL, WAY_BACK };

static bool learn(struct link_reader *reader, unsigned slot, const uint8_t *frame, unsigned vlan,
                  uint64_t now_ns, enum stats_drop *reason);
static enum way find_way(struct link_reader *reader, unsigned slot, const uint8_t *frame,
                         unsigned vlan, uint64_t now_ns, uint32_t *to);
static bool put(struct link_reader *reader, unsigned slot, uint32_t to,
                const struct message_inbound *inbound, uint64_t now_ns);

static void drop(struct link_reader *reader, enum stats_drop reason, int n_packets) {
    stats_dropped(reader->loop.stats, reason, (uint64_t)n_packets);
    capture_drop(reader->loop.capture, reason);
}

/* The copy for the other peers is a frame of its own in the books. */
static void flood(struct link_reader *reader, unsigned slot, const struct message_inbound *inbound,
                  uint64_t now_ns) {
    stats_count(reader->loop.stats, (uint64_t)inbound->n_packets, inbound->length);
    if (mac_is_reserved(inbound->frame))
        drop(reader, DROP_link_reader_reserved_group, inbound->n_packets);
    else if (!flood_may_go(&reader->switch_in->floods_full_at_ns[slot], now_ns,
                           (uint64_t)inbound->n_packets))
        drop(reader, DROP_link_reader_flood_limit, inbound->n_packets);
    else if (!put(reader, slot, HAIRPIN_TO_ALL, inbound, now_ns))
        drop(reader, DROP_link_reader_hairpin_full, inbound->n_packets);
}

bool switch_in_takes(struct link_reader *reader, unsigned slot,
                     const struct message_inbound *inbound, uint64_t now_ns) {
    unsigned vlan = frame_vlan(inbound->frame, inbound->length);
    enum stats_drop reason;
    uint32_t to = 0;
    if (!learn(reader, slot, inbound->frame, vlan, now_ns, &reason)) {
        drop(reader, reason, inbound->n_packets);
        return false;
    }
    enum way way = find_way(reader, slot, inbound->frame, vlan, now_ns, &to);
    reader->switch_in->has_crossed[slot] = way == WAY_PEER && reader->links[to] != NULL;
    switch (way) {
    case WAY_DEVICE:
        return true;
    case WAY_ALL:
        flood(reader, slot, inbound, now_ns);
        return true;
    case WAY_PEER:
        if (!put(reader, slot, to, inbound, now_ns))
            drop(reader, DROP_link_reader_hairpin_full, inbound->n_packets);
        return false;
    default:
        drop(reader, DROP_link_reader_same_peer, inbound->n_packets);
        return false;
    }
}

/* -- room in the hairpin ----------------------------------------------------------------------- */

static bool has_room(const struct link_reader *reader) {
    return ring_reserve(reader->loop.hairpin, message_space_max()) != NULL;
}

bool switch_in_must_wait(struct link_reader *reader, const struct arrival *arrival) {
    struct switch_in *switch_in = reader->switch_in;
    switch_in->is_waiting = arrival->slot >= 0 && switch_in->has_crossed[arrival->slot] &&
                            !has_room(reader) && clock_now_ns() >= switch_in->rests_until_ns;
    return switch_in->is_waiting;
}

enum wait_end switch_in_wait(struct link_reader *reader) {
    struct loop *loop = &reader->loop;
    enum wait_end end = ring_wait_space_for(loop->hairpin, message_space_max(), HAIRPIN_WAIT_NS,
                                            loop->channel_fd, loop->stats);
    if (end == WAIT_READY && !has_room(reader))
        reader->switch_in->rests_until_ns = clock_now_ns() + HAIRPIN_REST_NS;
    return end;
}

/* -- the source -------------------------------------------------------------------------------- */

struct move {
    uint64_t *full_at_ns;
    uint64_t now_ns;
};

static bool may_move(void *context) {
    const struct move *move = context;
    return token_take(move->full_at_ns, move->now_ns, MOVES_PER_SECOND, MOVES_BURST);
}

/* false: the frame is dropped for `reason`. */
static bool learn(struct link_reader *reader, unsigned slot, const uint8_t *frame, unsigned vlan,
                  uint64_t now_ns, enum stats_drop *reason) {
    struct loop *loop = &reader->loop;
    const uint8_t *source = frame + MAC_SOURCE_OFFSET;
    uint64_t key = mac_key_of(source, vlan);
    *reason = DROP_link_reader_bad_source;
    if (mac_is_group(source) || mac_table_is_own(loop->macs, key))
        return false;
    struct move move = {&reader->switch_in->moves_full_at_ns[slot], now_ns};
    enum mac_learned learned = mac_table_learn(loop->macs, slot, key, now_ns, may_move, &move);
    if (learned == MAC_MOVED)
        stats_add(&loop->stats->counters[COUNTER_mac_moves], 1);
    *reason = DROP_link_reader_mac_moves;
    return learned != MAC_HELD;
}

/* -- the destination --------------------------------------------------------------------------- */

static enum way find_way(struct link_reader *reader, unsigned slot, const uint8_t *frame,
                         unsigned vlan, uint64_t now_ns, uint32_t *to) {
    struct mac_table *macs = reader->loop.macs;
    uint64_t key = mac_key_of(frame, vlan);
    if (mac_is_group(frame))
        return WAY_ALL;
    if (mac_table_is_own(macs, key))
        return WAY_DEVICE;
    int owner = mac_table_find(macs, key, now_ns);
    if (owner == MAC_OWNER_UNKNOWN)
        return WAY_ALL;
    if (owner == MAC_OWNER_LOCAL)
        return WAY_DEVICE;
    *to = (uint32_t)owner;
    return owner == (int)slot ? WAY_BACK : WAY_PEER;
}

/* -- into the hairpin -------------------------------------------------------------------------- */

/* false: there is no room. */
static bool put(struct link_reader *reader, unsigned slot, uint32_t to,
                const struct message_inbound *inbound, uint64_t now_ns) {
    struct ring *hairpin = reader->loop.hairpin;
    size_t length = VNET_LENGTH + inbound->length;
    struct ring_record *record = ring_reserve(hairpin, sizeof *record + length + RING_RECORD_ALIGN);
    if (record == NULL)
        return false;
    uint8_t *vnet = (uint8_t *)record + sizeof *record;
    vnet_write(&inbound->vnet, vnet);
    memcpy(vnet + VNET_LENGTH, inbound->frame, inbound->length);
    *record = (struct ring_record){
        .offset = sizeof *record,
        .length = (uint32_t)length,
        .n_packets = (uint32_t)inbound->n_packets,
        .n_bytes = (uint32_t)inbound->length,
        .slot = slot,
        .link_id = to,
        .enqueued_ns = now_ns,
    };
    ring_commit(hairpin, record);
    stats_add(&reader->loop.stats->counters[COUNTER_switched], (uint64_t)inbound->n_packets);
    return true;
}
