/* ecn: the ECN codepoint of IP headers, and what a tunnel does with it (RFC 3168, RFC 6040).
 *
 * A router that would have to drop a packet marks it instead, where the sender has said that it
 * understands that. Inside a tunnel routers see the outer header only, so the tunnel copies the
 * codepoint out (RFC 6040 section 4.1, normal mode) and combines it with the inner one at the other
 * end (section 4.2).
 */
#ifndef FASTUN_PACKET_ECN_H
#define FASTUN_PACKET_ECN_H

#include <stdbool.h>

#include "fastun.h"
#include "packet/headers.h"

/* The two low bits of IPv4's TOS and IPv6's traffic class. */
enum ecn {
    ECN_NOT_ECT = 0, /* the sender does not understand marks */
    ECN_ECT_1 = 1,
    ECN_ECT_0 = 2,
    ECN_CE = 3, /* congestion experienced */
};

enum { ECN_MASK = 3 };

/* Of the IP packet in a frame of the device, on a TAP device behind VLAN tags; ECN_NOT_ECT where
 * there is none. */
enum ecn ecn_of_frame(enum mode mode, const uint8_t *frame, size_t length);

/* Marks the IP packet in the frame. false, and nothing is changed: its sender would not understand
 * that. */
bool ecn_mark(enum mode mode, uint8_t *frame, size_t length);

/* Combines the outer header's codepoint into the frame that came in it. false: it is to be dropped,
 * because the path is congested and only a loss says so to its sender. */
bool ecn_combine(enum mode mode, uint8_t *frame, size_t length, enum ecn outer);

#endif
