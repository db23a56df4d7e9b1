/* gso: a super-packet as the packets that the network would see.
 *
 * For links whose other end takes plain packets only: a super-packet is cut into segments as the
 * kernel would cut it (net/ipv4/tcp_offload.c, udp_offload.c), and what the kernel left to the
 * network card, the checksums, is completed. Each segment is written in one go, headers and
 * payload, to wherever it is wanted:
 *
 *     n = gso_split_begin(&split, &vnet, frame, length);
 *     for (int i = 0; i < n; i++)
 *         gso_write_segment(&split, i, room for gso_segment_length(&split, i));
 */
#ifndef FASTUN_PACKET_GSO_H
#define FASTUN_PACKET_GSO_H

#include "packet/vnet.h"

/* A frame that is being cut; it must stay as it is meanwhile. */
struct gso_split {
    const uint8_t *frame;
    size_t length;
    size_t ip, transport;   /* where these headers begin */
    size_t header_length;   /* bytes of the frame that are in front of every segment's payload */
    size_t payload_max;     /* of a segment; the last may have less */
    size_t checksum;        /* where the transport's checksum is */
    uint64_t ip_sum;        /* of the IPv4 header, */
    uint64_t transport_sum; /* of pseudo-header and transport header: without what differs */
    int n_segments;
    bool is_ipv4, is_udp;
};

/* `vnet` is a super-packet's and has passed vnet_check or vnet_check_local for this frame. The
 * checksum's field holds the pseudo-header's sum, as the kernel leaves it. Returns the number of
 * segments, at least 1. */
int gso_split_begin(struct gso_split *split, const struct vnet *vnet, const uint8_t *frame,
                    size_t length);

/* Bytes of segment `i`, from 0: all are equally long but the last, which is never longer. */
static inline size_t gso_segment_length(const struct gso_split *split, int i) {
    size_t payload = split->length - split->header_length - (size_t)i * split->payload_max;
    return split->header_length + (payload < split->payload_max ? payload : split->payload_max);
}

/* Writes segment `i` to `out`, which does not overlap the frame. */
void gso_write_segment(const struct gso_split *split, int i, uint8_t *out);

#endif
