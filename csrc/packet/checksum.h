/* checksum: the Internet checksum (RFC 1071) of IPv4, ICMP, TCP and UDP.
 *
 * The words are added as this machine loads them, which gives the same bytes as adding big-endian
 * words (RFC 1071 2 (B)), so that nothing is swapped: a folded sum goes into a header, and a sum
 * that is there already comes out of it, by a plain store or load of 16 bits.
 *
 * A sum is kept in 64 bits and not reduced, so that nothing is ever carried: sums, and words of 16
 * or 32 bits in memory order, are added to a sum by `+`, and a word is taken out of it by adding
 * its complement, (uint16_t)~word. Room is for 4 GiB of bytes.
 */
#ifndef FASTUN_PACKET_CHECKSUM_H
#define FASTUN_PACKET_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Adds the words of `bytes`, which may start at any address, to a sum that began as 0. An odd
 * `length` counts as if a zero byte followed, so only the last of a chain of calls may have one. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length);

/* As checksum_add, and copies the bytes to `copy`, which must not overlap them. */
uint64_t checksum_add_and_copy(uint64_t sum, const void *bytes, size_t length, void *copy);

/* The sum in 16 bits, in memory order and not yet complemented: what goes into a checksum field is
 * (uint16_t)~checksum_fold(sum). 0 only when all that was added was 0. */
uint16_t checksum_fold(uint64_t sum);

/* Puts the complement of the sum into the checksum field at `field`. */
static inline void checksum_write(uint8_t *field, uint64_t sum) {
    uint16_t checksum = (uint16_t)~checksum_fold(sum);
    memcpy(field, &checksum, sizeof checksum);
}

/* The sum of the pseudo-header (RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6): the addresses of the
 * IP header at `packet` (20 or 40 bytes, by the version there), `protocol`, and the bytes of the
 * transport header and its payload. */
uint64_t checksum_pseudo_header(const uint8_t *packet, uint8_t protocol, size_t transport_length);

#endif
