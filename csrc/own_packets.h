/* own_packets: our own outer packets, which a route has led back into the tunnel.
 *
 * Sealed once more they would come back once more, each longer than the one before. The tun-reader
 * knows them by what nobody else would write: a data message on UDP for an index that it seals for.
 * That holds whatever the addresses were changed to on the way (masquerading, a bridge), and what
 * another tunnel sends through this one passes.
 */
#ifndef FASTUN_OWN_PACKETS_H
#define FASTUN_OWN_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct own_packets; /* the indices of all sending keys */

/* NULL: no memory. */
struct own_packets *own_packets_new(void);
void own_packets_free(struct own_packets *own);
/* A sending key has come or gone. */
void own_packets_changed(struct own_packets *own);
/* Whether the frame, checked by message_is_frame, is such a packet. Of a super-packet or a
 * fragmented one the first datagram is looked at: what follows it cannot come without. */
bool own_packets_has(struct loop *loop, const uint8_t *frame, size_t length);

#endif
