/* mss: the largest TCP segment that a SYN asks for, made to fit the tunnel.
 *
 * For paths on which the ICMP answer "too big" gets lost: both ends of a connection then never send
 * what would need it. Source: RFC 9293 3.7.1 (the option), RFC 6691.
 */
#ifndef FASTUN_PACKET_MSS_H
#define FASTUN_PACKET_MSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* If `packet`, a whole IP header of version 4 or 6 at least, is a TCP SYN whose segments would make
 * packets longer than `mtu`, lowers its MSS option. The checksum is kept right where it is complete
 * (`has_checksum`); one still to be made covers the option by then. */
void mss_clamp(uint8_t *packet, size_t length, size_t mtu, bool has_checksum);

#endif
