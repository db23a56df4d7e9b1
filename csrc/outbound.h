/* outbound: one frame of the device becomes a record in the ring, or several, or is dropped and
 * counted.
 *
 *   a peer that takes super-packets, or a packet that is none: laid out and sealed where the device
 *   put it, one record
 *   a super-packet for a peer that takes none: split (gso.h), each segment a sealed message; as
 * many messages stand in a record as one sendmsg can carry
 *
 * Used by the tun-reader alone.
 */
#ifndef FASTUN_OUTBOUND_H
#define FASTUN_OUTBOUND_H

#include "gso.h"
#include "loop.h"

enum {
    OUTBOUND_OFFSET = sizeof(struct ring_record) + MESSAGE_HEADROOM,
    /* Ring space in which any frame, or any part of a split one, finds room. */
    OUTBOUND_SPACE = OUTBOUND_OFFSET + VNET_LENGTH + DEVICE_FRAME_MAX + MESSAGE_TAILROOM,
};

/* A super-packet on its way into the ring, segment by segment: the ring may be full in between. */
struct splitting {
    /* Where the next frame is read to: here rather than into the ring when the last one was split,
     * which saves copying it. */
    bool is_expected;
    int n_segments, next; /* equal: nothing is being split */
    unsigned slot;
    bool may_fragment; /* the segments fit the path in fragments only: one datagram a record */
    uint64_t now_ns;
    struct gso_split split;
    uint8_t frame[VNET_LENGTH + DEVICE_FRAME_MAX];
};

/* Where the device is to write the next frame, virtio_net_hdr first; `record` has OUTBOUND_SPACE.
 */
uint8_t *outbound_target(struct loop *loop, struct ring_record *record);
/* Takes what the device wrote there; `read_length` is at least VNET_LENGTH. Returns bytes of the
 * frame. */
size_t outbound_take(struct loop *loop, struct ring_record *record, size_t read_length,
                     uint64_t now_ns, uint64_t boottime_ns);
/* Goes on with the frame that is being split. false: the ring is full. */
bool outbound_split(struct loop *loop);

/* Has the gateway asked for a session with the peer (loop->wanted_slot), if it was not of late. */
void outbound_want_session(struct loop *loop, unsigned slot, uint64_t now_ns);

static inline bool outbound_is_splitting(const struct loop *loop) {
    return loop->splitting->next < loop->splitting->n_segments;
}

#endif
