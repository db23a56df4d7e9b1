/* splitting: a super-packet for a peer that takes plain packets, on its way into the ring.
 *
 * It is cut as the kernel would (gso.h), and each segment is a message of its own, sealed. As many
 * messages make a record as one sendmsg can carry. The ring may be full in between; then the frame
 * waits here, beside the ring. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_SPLITTING_H
#define FASTUN_OUTBOUND_SPLITTING_H

#include "outbound/frame.h"
#include "outbound/piece_flows.h"
#include "packet/gso.h"
#include "packet/pieces.h"

enum {
    PIECE_PADDING_MAX = 2048, /* at the end of the last piece */
};

struct splitting {
    /* Where the next frame is read to: here rather than into the ring when the last one was split,
     * which saves copying it. */
    bool is_expected;
    int n_packets;        /* of the frame */
    int n_segments, next; /* messages, of a whole its pieces; equal: nothing is being split */
    bool is_whole;        /* the frame goes in pieces as it is, rather than in segments */
    size_t slice, whole;  /* then: bytes of a piece, and of all, virtio_net_hdr included */
    int n_counted;        /* packets that are counted in records */
    uint32_t session;     /* index of the session that the pieces are sealed in */
    struct piece_flows flows;
    bool in_pieces;         /* each segment goes as two halves: the peer joins them */
    bool in_fragments;      /* each segment is too long for the path, and goes in fragments */
    struct arrival arrival; /* of the frame */
    uint32_t flow;          /* as its records say */
    enum ecn ecn;           /* of each segment, by the frame's header */
    uint32_t link_id;       /* the frame is split for this link; the rest of it goes to no other */
    struct gso_split split;
    uint8_t room[PIECE_HEADER + VNET_LENGTH + DEVICE_FRAME_MAX + PIECE_PADDING_MAX];
};

/* Behind room for a piece's header. */
static inline uint8_t *splitting_frame(struct splitting *splitting) {
    return splitting->room + PIECE_HEADER;
}

struct splitting *splitting_new(void);
void splitting_free(struct splitting *splitting);

/* Begins to split the frame, which lies in reader->splitting; the peer's link is open. Returns the
 * bytes of the frame, 0 if it was dropped. */
size_t splitting_begin(struct tun_reader *reader, const struct frame *frame,
                       const struct arrival *arrival);
/* Goes on with the frame that is being split. false: the ring is full. */
bool splitting_continue(struct tun_reader *reader);

static inline bool splitting_is_underway(const struct splitting *splitting) {
    return splitting->next < splitting->n_segments;
}

#endif
