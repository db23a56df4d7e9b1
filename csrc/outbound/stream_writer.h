/* stream_writer: the link-writer's records for peers on streams, a writev each link.
 *
 * The records are messages with their length prefix already. The rest of a message that is half out
 * goes to the link's own queue (link_queue.h). What else a full socket does not take, or one that has enough
 * on its way (stream_path.h):
 *
 *   the only link      it stays in the ring, which then pushes back on the tun-reader; small frames of flows
 *                      that send little overtake it there (overtaking.h)
 *   one of many        it goes to the link's queue, so that the ring goes on for the others; what
 *                      that cannot hold is dropped, and counted for the peer
 */
#ifndef FASTUN_OUTBOUND_STREAM_WRITER_H
#define FASTUN_OUTBOUND_STREAM_WRITER_H

#include "outbound/link_writer.h"

/* Writes, queues, leaves or drops what of the batch is not on UDP; returns how many records, from the first
 * on, can be released. */
int streams_write(struct link_writer *writer, struct batch *batch);
/* The socket has room again: writes what is in the link's queue, or has it take turns. */
void stream_resume(struct link_writer *writer, struct writer_link *link);
/* Returns 0 or -errno: -ENOBUFS if there is no room. */
int stream_send_message(struct link_writer *writer, struct writer_link *link,
                        const uint8_t *message, size_t length);
/* Writes at most `n_max` bytes of what is in the link's queue, which is not empty; returns how many. */
size_t stream_write_queued(struct link_writer *writer, struct writer_link *link, size_t n_max);
/* The link goes. */
void stream_forget(struct link_writer *writer, struct writer_link *link);

/* The stream is of no more use; the gateway is informed. */
void stream_end(struct link_writer *writer, struct writer_link *link, int error);
/* The stream of the ring's first record has taken so much of it. */
void stream_take_rest(struct link_writer *writer, size_t n_sent);

#endif
