/* frame: one frame of the device becomes a record in the ring, or several, or is dropped and
 * counted.
 *
 *   a peer that takes super-packets, or a packet that is none: laid out and sealed where the device
 *   put it, one record
 *   a super-packet for a peer that takes none: split (gso.h), each segment a sealed message; as
 * many messages stand in a record as one sendmsg can carry
 *
 * Used by the tun-reader alone.
 */
#ifndef FASTUN_OUTBOUND_FRAME_H
#define FASTUN_OUTBOUND_FRAME_H

#include "packet/gso.h"
#include "loop/loop.h"

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
    bool in_fragments;    /* each segment is too long for the path, and goes in fragments */
    unsigned slot;
    uint32_t link_id; /* the frame is split for this link; the rest of it goes to no other */
    uint64_t now_ns;
    struct gso_split split;
    uint8_t frame[VNET_LENGTH + DEVICE_FRAME_MAX];
};

/* Where the device is to write the next frame, virtio_net_hdr first; `record` has
 * OUTBOUND_SPACE. */
uint8_t *outbound_target(struct loop *loop, struct ring_record *record);
/* Takes what the device wrote there; `read_length` is at least VNET_LENGTH. Returns bytes of the
 * frame. */
size_t outbound_take(struct loop *loop, struct ring_record *record, size_t read_length,
                     uint64_t now_ns, uint64_t boottime_ns);
/* Goes on with the frame that is being split. false: the ring is full. */
bool outbound_split(struct loop *loop);

/* Has the gateway asked for a session with the peer (loop->wanted_slot), if it was not of late. */
void outbound_want_session(struct loop *loop, unsigned slot, uint64_t now_ns);

/* Passes on the frames of peers that have got a session, and drops what has waited too long.
 * false: the ring is full. */
bool outbound_unstage(struct loop *loop);

/* -- between frame.c and splitting.c -- */

/* The frame stands in loop->splitting; the peer's link is open. */
size_t splitting_take(struct loop *loop, unsigned slot, size_t frame_length, uint64_t now_ns,
                      uint64_t boottime_ns);
/* Counts a frame that was taken in and goes no further. */
void outbound_drop(struct loop *loop, enum stats_drop reason, uint64_t n_packets, size_t n_bytes);
/* Seals the message, where the wire does, and puts the length in front on a stream. false: the key
 * is used up. */
bool outbound_finish(struct loop *loop, struct loop_link *link, unsigned slot,
                     struct message_outbound *message);
void outbound_mark_sent(struct loop *loop, unsigned slot, uint64_t boottime_ns, bool is_data);
void outbound_commit(struct loop *loop, struct ring_record *record, unsigned slot,
                     const struct message_outbound *message, size_t n_bytes, uint32_t segment,
                     uint64_t now_ns);

enum fit { FITS, FITS_IN_FRAGMENTS, FITS_NOT };

enum fit outbound_fit(const struct loop *loop, const struct loop_link *link, const uint8_t *packet,
                      size_t length);
/* Drops what does not fit the path, and tells its sender. */
void outbound_refuse(struct loop *loop, unsigned slot, const uint8_t *packet, size_t frame_length,
                     uint64_t n_packets);

static inline bool outbound_is_splitting(const struct loop *loop) {
    return loop->splitting->next < loop->splitting->n_segments;
}

#endif
