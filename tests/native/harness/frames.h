/* frames: what a device would hand over, made at random.
 *
 * Only what fastun looks at is filled in with care (versions, header lengths, the offload header);
 * the rest is noise, so that a byte gone astray shows.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include "packet/encapsulation.h"
#include "random.h"

enum frame_kind {
    FRAME_IPV4,
    FRAME_IPV6,
    FRAME_UNCHECKSUMMED, /* one TCP/IPv4 packet whose checksum is still to be made */
    FRAME_TCP4_SUPER,
    FRAME_TCP6_SUPER,
    FRAME_UDP4_SUPER,
    FRAME_UDP6_SUPER,
    N_FRAME_KINDS,
    N_PLAIN_KINDS = FRAME_UNCHECKSUMMED, /* the kinds before it need no offload header */
};

struct frame {
    uint8_t bytes[VNET_LENGTH + MESSAGE_MAX]; /* virtio_net_hdr, then the frame */
    size_t length;                            /* of both */
    size_t n_packets;
};

/* `length` is the frame's, without virtio_net_hdr; at least FRAME_LENGTH_MIN. */
enum { FRAME_LENGTH_MIN = 128 };
void frame_make(struct frame *frame, struct random *random, enum mode mode, enum frame_kind kind,
                size_t length);

/* As frame_make, of a random kind among the first `n_kinds` and at most `length_max` long. */
void frame_make_any(struct frame *frame, struct random *random, enum mode mode, size_t n_kinds,
                    size_t length_max);

#endif
