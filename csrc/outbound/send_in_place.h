/* send_in_place: the link-writer's step, done by the tun-reader where that is cheaper than waking it.
 *
 * Which links may be written so, the link-writer says in the peer table (in_place_link), under the
 * token: so a link that it has let go of is not written any more, whatever the tun-reader still has
 * of it. What may go wrong on a stream is in the ring's header, for the link-writer to find: the
 * stream that is being written, and how much of the ring's first record it has taken.
 */
#ifndef FASTUN_OUTBOUND_SEND_IN_PLACE_H
#define FASTUN_OUTBOUND_SEND_IN_PLACE_H

#include "outbound/link_writer.h"
#include "outbound/tun_reader.h"

/* -- tun-reader -- */

/* Publishes what is in the outbound ring; sends it if the link-writer sleeps and it is little. */
void send_in_place_publish(struct tun_reader *reader);

/* -- link-writer: the token's holder alone calls these -- */

/* At the start: no link yet, and what a holder has left was a predecessor's, whose streams end. */
void send_in_place_reset(struct loop *loop);
/* The link may be written in place from now on, or not any more. */
void send_in_place_allow(struct link_writer *writer, const struct writer_link *link, bool may);
/* Awake again: goes on with what a holder has begun. */
void send_in_place_take_over(struct link_writer *writer);

#endif
