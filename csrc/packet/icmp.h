/* icmp: the answer to a packet that cannot go on: no peer is there to take it, or it is too long.
 *
 * Host unreachable (RFC 792, type 3 code 1) or address unreachable (RFC 4443, type 1 code 3), so
 * that the sender's connect() fails at once instead of after minutes. The answer comes from the
 * address that the packet was for and goes to the packet's source.
 */
#ifndef FASTUN_PACKET_ICMP_H
#define FASTUN_PACKET_ICMP_H

#include <stddef.h>
#include <stdint.h>

#include "packet/headers.h"

enum {
    ICMP_ANSWER4_MAX = 576,          /* the whole answer: RFC 1812 4.3.2.3 */
    ICMP_ANSWER6_MAX = IPV6_MTU_MIN, /* RFC 4443 2.4 (c) */
    ICMP_ANSWER_MAX = ICMP_ANSWER6_MAX,
};

/* Writes the answer to the outbound IP packet and returns its length, at most `answer_max`. 0 when
 * none may be sent (RFC 1122 3.2.2, RFC 4443 2.4 (e)): to an ICMP error or what might be one, to
 * or from an address that is not one host's, to a fragment other than the first; or when the
 * packet is malformed or `answer_max` too small. `answer` must not overlap the packet. The caller
 * limits the rate (RFC 4443 2.4 (f)). */
size_t icmp_unreachable(const uint8_t *packet, size_t length, uint8_t *answer, size_t answer_max);

/* The same for a packet that is longer than its way allows: fragmentation needed (RFC 792, RFC
 * 1191, type 3 code 4) or packet too big (RFC 8201, type 2), with the MTU that would do. */
size_t icmp_too_big(const uint8_t *packet, size_t length, size_t mtu, uint8_t *answer,
                    size_t answer_max);

#endif
