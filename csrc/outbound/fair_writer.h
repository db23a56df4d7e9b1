/* fair_writer: how the link-writer shares a full uplink among the peers.
 *
 * Usually the kernel gets what is in the ring at once. When it keeps a queue for longer (uplink.h),
 * and there are several peers, it is brought here, where it is in order of peers and not of arrival:
 * the ring is emptied into the links' queues, and from those the peers take turns (drr.h) to send
 * what the kernel has room for. In between the worker sleeps until there is some, or the ring has more:
 * who sends little need not wait for room. After a second in which the uplink was not full, all is as
 * before.
 */
#ifndef FASTUN_OUTBOUND_FAIR_WRITER_H
#define FASTUN_OUTBOUND_FAIR_WRITER_H

#include "outbound/link_writer.h"

void fair_init(struct fair *fair);
/* After a batch went out at once: looks now and then whether it keeps a queue. */
void fair_watch(struct link_writer *writer);
/* In place of gathering and writing a batch, as long as `is_on`. */
enum step fair_step(struct link_writer *writer);
/* There is something in the link's queue, or its socket has room again. */
void fair_wake(struct link_writer *writer, struct writer_link *link);
/* A link comes, or goes with what its queue has. */
void fair_attach(struct link_writer *writer, struct writer_link *link);
void fair_forget(struct link_writer *writer, struct writer_link *link);

/* Bytes of a socket that the kernel has not sent yet, as it counts them. */
uint64_t fair_unsent_of(int fd);

#endif
