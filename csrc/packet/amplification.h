/* amplification: how much a super-packet from the network may expand.
 *
 * One message can cause thousands of packets: our kernel, or our own splitting for a peer on UDP,
 * cuts it by gso_size and puts a copy of its headers in front of every segment, and each segment
 * has the overhead of a packet on a wire. The sender pays for all of that once. So a peer with a
 * valid key could fill another peer's link, or a third party's, with many times what it sends, and
 * keep the tun-writer busy for everyone.
 *
 * The rule: the expansion of a super-packet, counted in bytes on a wire, is at most
 * AMPLIFICATION_MAX times the frame. With many segments, each then has at least 165 bytes (UDP on
 * IPv4) to 237 (TCP on IPv6 with all its options) of payload, and the same bytes sent as single
 * packets would have made more of them. Super-packets with IPv6 extension headers, which our kernel
 * copies to every segment, are refused.
 *
 * The receiver refuses what breaks the rule. The sender checks the same for what its own kernel
 * hands over, which may be legitimate (small MSS, short datagrams by UDP_SEGMENT, IPv6 options),
 * and splits it: packets that are sent singly have paid for themselves.
 */
#ifndef FASTUN_PACKET_AMPLIFICATION_H
#define FASTUN_PACKET_AMPLIFICATION_H

#include "packet/vnet.h"

enum {
    /* Twice is enough for every MSS in use; with 3 times, 40 Mbit/s of the shortest segments took a
     * fifth of a neighbour's goodput on two cores, in packets to be forwarded and answered. */
    AMPLIFICATION_MAX = 2,
    /* Around each packet on its way out, at most: Ethernet with preamble, checksum and gap (38),
     * IPv6 and UDP (48); our data header and tag (32), padding (15) and type (4). */
    AMPLIFICATION_OVERHEAD = 38 + 48 + 32 + 15 + 4,
};

/* Whether a super-packet with `n_segments` (as returned by vnet_check or vnet_check_local) breaks
 * the rule. */
bool amplifies(const struct vnet *vnet, int n_segments, const uint8_t *frame, size_t length);

#endif
