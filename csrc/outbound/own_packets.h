/* own_packets: our own outer packets, which a route has led back into the tunnel.
 *
 * If they were sealed again they would come back again, longer each time. The tun-reader recognises
 * them by what only fastun writes: a data message on UDP for an index that it seals for, or that
 * another lane's does: the kernel gives a frame to any queue. That works
 * even if addresses were changed on the way (masquerading, a bridge), and lets the packets of
 * another tunnel through.
 */
#ifndef FASTUN_OUTBOUND_OWN_PACKETS_H
#define FASTUN_OUTBOUND_OWN_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tun_reader;
struct own_packets; /* the indices of all sending keys */

/* NULL: out of memory. */
struct own_packets *own_packets_new(void);
void own_packets_free(struct own_packets *own);
/* A sending key was added or removed. */
void own_packets_changed(struct own_packets *own);
/* Whether the frame, checked by message_is_frame, is such a packet. Of a super-packet or a
 * fragmented packet only the first datagram is checked: the others cannot arrive without it. */
bool own_packets_has(struct tun_reader *reader, const uint8_t *frame, size_t length);

#endif
