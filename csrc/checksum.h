/* checksum: the Internet checksum (RFC 1071) of IPv4, ICMP, TCP and UDP.
 *
 * The sum is of 16-bit words as this machine loads them, which gives the same bytes as the sum of
 * big-endian words (RFC 1071 section 2 (B)), so that nothing needs swapping: a folded sum goes into
 * a header, and a sum already there comes out of it, by memcpy of a uint16_t.
 */
#ifndef FASTUN_CHECKSUM_H
#define FASTUN_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds the words of `bytes`, which may start at any address, to a sum that starts as 0. An odd
 * `length` counts as if a zero byte followed, so only the last of a chain of calls may have one. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length);

/* The sum in 16 bits, in memory order and not yet complemented: what goes into a checksum field
 * is (uint16_t)~checksum_fold(sum). It is 0 only when every word summed was 0. */
uint16_t checksum_fold(uint64_t sum);

/* The sum of the pseudo-header of RFC 9293 3.1 (IPv4) or RFC 8200 8.1 (IPv6): both addresses of
 * the IP header at `packet` (20 or 40 bytes, by the version there), `protocol` and the length in
 * bytes of the transport header with its payload. */
uint64_t checksum_pseudo_header(const uint8_t *packet, uint8_t protocol, size_t transport_length);

#endif
