/* amplification: what a super-packet from the network may become.
 *
 * One message can ask for thousands of packets: our kernel, or our own splitting for a peer on UDP,
 * cuts it by gso_size and puts a copy of its headers in front of every piece, and around each
 * stands what a packet costs on a wire. The sender pays for all of that once. So whoever has a key
 * could fill another peer's link, or a third party's, with many times what he sends, and keep the
 * tun-writer busy for everyone.
 *
 * The rule: what a super-packet becomes, counted in bytes on a wire, is AMPLIFICATION_MAX times the
 * frame at most. Of many segments each has then at least 165 bytes (UDP on IPv4) to 237 (TCP on
 * IPv6 with all its options) of payload, and the same bytes could have come as more packets, sent
 * singly. IPv6 extension headers, which our kernel puts in front of every segment, are not for
 * super-packets.
 *
 * The receiver refuses what breaks the rule. The sender asks the same of what its own kernel hands
 * over, which may be legitimate (small MSS, short datagrams by UDP_SEGMENT, options of IPv6), and
 * splits it: packets that are sent singly have paid for themselves.
 */
#ifndef FASTUN_AMPLIFICATION_H
#define FASTUN_AMPLIFICATION_H

#include "vnet.h"

enum {
    /* Twice is enough for every MSS in use; with 3 times, 40 Mbit/s of the shortest segments took a
     * fifth of a neighbour's goodput on two cores, in packets to be forwarded and answered. */
    AMPLIFICATION_MAX = 2,
    /* Around each packet on its way out, at most: Ethernet with preamble, checksum and gap (38),
     * IPv6 and UDP (48); our data header and tag (32), padding (15) and type (4). */
    AMPLIFICATION_OVERHEAD = 38 + 48 + 32 + 15 + 4,
};

/* Whether a super-packet, of which vnet_check or vnet_check_own has said that it has `n_segments`,
 * breaks the rule. */
bool amplifies(const struct vnet *vnet, int n_segments, const uint8_t *frame, size_t length);

#endif
