/* fuzz_lane: what the targets have in common that put their input before the link-reader: the lane,
 * and what is true of it whatever the input was. */
#ifndef FUZZ_LANE_H
#define FUZZ_LANE_H

#include "fuzz.h"
#include "lane_memory.h"
#include "loop/loop.h"
#include "sockets.h"

enum { FUZZ_RING_BYTES = 1 << 21 };

static struct lane_memory lane; /* the target's end of the ring is the consumer's */
static struct ring *producer;   /* the loop's end */
static int channel[2];

static inline void fuzz_lane_open_once(void) {
    if (producer != NULL)
        return;
    lane_memory_open(&lane, FUZZ_RING_BYTES);
    producer = ring_attach(lane.ring_fd, FUZZ_RING_BYTES);
    FUZZ_CHECK(producer != NULL);
    pair_open(channel, SOCK_SEQPACKET);
}

static inline struct loop_parts fuzz_parts(enum wire wire, enum mode mode) {
    return (struct loop_parts){.role = ROLE_link_reader,
                               .wire = wire,
                               .mode = mode,
                               .ring = producer,
                               .stats = lane.stats,
                               .peers = lane.peers,
                               .sending = lane.sending,
                               .marks = lane.marks,
                               .device_fd = -1,
                               .channel_fd = channel[1],
                               .wake_fd = -1};
}

static inline struct loop *fuzz_loop_new(enum wire wire, enum mode mode) {
    struct loop_parts parts = fuzz_parts(wire, mode);
    struct loop *made = loop_new(&parts);
    FUZZ_CHECK(made != NULL);
    return made;
}

/* The same, made once: it is large, and an input small. What an input has left in it, the target
 * takes away. */
static inline struct loop *fuzz_loop_of(enum wire wire, enum mode mode) {
    static struct loop *made[WIRE_WIREGUARD + 1][MODE_TAP + 1];
    if (made[wire][mode] == NULL)
        made[wire][mode] = fuzz_loop_new(wire, mode);
    return made[wire][mode];
}

/* 10.0.0.0/8 and fd00::/8 are the peer's. */
static inline void fuzz_allow_ten(struct loop *to, unsigned slot) {
    FUZZ_CHECK(loop_allow_ip(to, slot, (const uint8_t[4]){10}, 4, 8) == 0);
    FUZZ_CHECK(loop_allow_ip(to, slot, (const uint8_t[16]){0xfd}, 16, 8) == 0);
}

/* The device can be given each frame in the ring; `is_checked`: and its source is the peer's.
 * Packets that came in = these and those that were dropped. */
static inline void fuzz_check_lane(enum mode mode, bool is_checked) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(lane.ring), n_packets = 0;
    bool corrupt = false;
    for (; (record = ring_peek(lane.ring, &cursor, &corrupt)) != NULL;
         n_packets += record->n_packets) {
        const uint8_t *frame = record->payload + VNET_LENGTH;
        struct vnet vnet = vnet_read(record->payload);
        FUZZ_CHECK(record->length == VNET_LENGTH + record->n_bytes);
        FUZZ_CHECK(vnet_check(&vnet, frame, record->n_bytes,
                              mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0) ==
                   (int)record->n_packets);
        FUZZ_CHECK(!is_checked || (frame[0] >> 4 == 4 ? frame[12] == 10 : frame[8] == 0xfd));
    }
    FUZZ_CHECK(!corrupt);
    ring_release(lane.ring, cursor, &lane.stats->parts[ROLE_tun_writer].block);
    FUZZ_CHECK(stats_read_counter(lane.stats, ROLE_link_reader, COUNTER_packets) ==
               n_packets + lane_dropped_in_all(&lane));
}

#endif
