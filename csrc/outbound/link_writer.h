/* link_writer: what its two kinds of links, streams and UDP, have in common. */
#ifndef FASTUN_OUTBOUND_LINK_WRITER_H
#define FASTUN_OUTBOUND_LINK_WRITER_H

#include "loop/loop.h"

/* The link that the record was laid out for, or NULL when that is no more. */
struct loop_link *link_writer_link(struct loop *loop, const struct ring_view *record);
/* Whether it goes to a peer on UDP. */
bool link_writer_is_datagram(struct loop *loop, const struct ring_view *record);
/* Counts what has gone out, and what has not. */
void link_writer_sent(struct loop *loop, unsigned slot, uint32_t n_packets, uint32_t n_bytes,
                      uint64_t delay_ns);
void link_writer_dropped(struct loop *loop, unsigned slot, enum stats_drop reason,
                         uint32_t n_packets);
/* Has the gateway told that the path to the peer takes less than was sent. */
void link_writer_too_long(struct loop *loop, unsigned slot);

#endif
