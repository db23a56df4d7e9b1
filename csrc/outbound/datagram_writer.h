/* datagram_writer: the link-writer's records for peers on UDP, as few system calls as it takes.
 *
 * Records become trains (datagram_train.h), and many trains go in one sendmmsg. Where the kernel
 * refuses trains, their datagrams go one by one.
 */
#ifndef FASTUN_OUTBOUND_DATAGRAM_WRITER_H
#define FASTUN_OUTBOUND_DATAGRAM_WRITER_H

#include "outbound/datagram_train.h"
#include "outbound/link_writer.h"

/* Called first by a new link-writer: its predecessor may have been killed between clearing "don't
 * fragment" for one datagram and setting it again. Returns 0 or -errno. */
int datagram_writer_adopt(const struct loop_socket *where);

/* Sends or drops, and counts, those of the batch's records whose link is on UDP; marks them done.
 * STEP_DOORBELL: the doorbell rang while a socket was full, and the rest is not done; else
 * STEP_MORE. */
enum step datagrams_write(struct link_writer *writer, struct batch *batch);

/* Sends or drops, and counts, the trains. Returns how many: the doorbell rang before the rest. */
int datagrams_send(struct link_writer *writer, struct trains *trains);

/* Sends one message that is in no record, whole or not at all. Returns 0 or -errno; EMSGSIZE is
 * also reported to the gateway. */
int datagram_send_message(struct link_writer *writer, struct writer_link *link,
                          const uint8_t *message, size_t length);

#endif
