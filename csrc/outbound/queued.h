/* queued: what waits in the link-writer for one link, in the link's own queue (loop/link_queue.h). */
#ifndef FASTUN_OUTBOUND_QUEUED_H
#define FASTUN_OUTBOUND_QUEUED_H

#include "outbound/link_writer.h"

/* false: there is no room, and the queue already has its equal part of the pool. */
bool queued_append(struct link_writer *writer, struct writer_link *link,
                   const struct queue_entry *entry, const uint8_t *bytes);
/* Appends the record, of which a stream has taken `n_sent` bytes, or drops and counts it. */
void queued_add(struct link_writer *writer, struct writer_link *link,
                const struct ring_view *record, size_t n_sent);
/* Lets the tun-reader see how long the oldest of the link's frames has waited; those in the link's
 * own queue came before those in the ring, of which `rest` is the first or NULL. */
void queued_mark(struct link_writer *writer, struct writer_link *link,
                 const struct ring_view *rest);
/* Drops and counts what is in the queue of a link that goes. */
void queued_forget(struct link_writer *writer, struct writer_link *link);

#endif
