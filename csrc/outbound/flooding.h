/* flooding: a frame on its way to all peers of a TAP device but the one that it came from.
 *
 * Each gets a copy of its own, sealed for it: whole where the peer takes super-packets, split
 * elsewhere. The ring may be full in between, or a session be wanted first; then the rest waits
 * here. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_FLOODING_H
#define FASTUN_OUTBOUND_FLOODING_H

#include "outbound/frame.h"

enum { ORIGIN_DEVICE = -1 };

struct flooding {
    unsigned next; /* the slot to look at next; N_PEER_SLOTS: nothing is being flooded */
    int origin;    /* the sender's slot, or ORIGIN_DEVICE */
    size_t length; /* with the virtio_net_hdr */
    uint64_t floods_full_at_ns;                   /* the allowance of this host's side */
    uint64_t copies_full_at_ns[1 + N_PEER_SLOTS]; /* by origin, this host's side first */
    uint8_t frame[VNET_LENGTH + DEVICE_FRAME_MAX];
};

/* NULL: no memory. */
struct flooding *flooding_new(void);
void flooding_free(struct flooding *flooding);

/* Begins with the frame, of which it takes a copy; none is under way. One that goes to no peer is
 * dropped, or, if it came from a peer, has had its way to the device already. What is more than
 * its origin may flood is dropped. */
void flooding_begin(struct tun_reader *reader, const struct frame *frame, int origin,
                    const struct arrival *arrival);
/* Goes on with it. false: the ring is full, or a session is wanted (reader->wanted.slot). */
bool flooding_continue(struct tun_reader *reader);

#endif
