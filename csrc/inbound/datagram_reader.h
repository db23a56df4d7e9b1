/* datagram_reader: the link-reader's UDP sockets: a message a datagram, from anywhere.
 *
 * A socket is shared by all peers on it; whose a message is, its index says, and its tag proves.
 * Errors of a socket may be caused by others (an ICMP message that any host sent back) and never
 * end anything.
 */
#ifndef FASTUN_INBOUND_DATAGRAM_READER_H
#define FASTUN_INBOUND_DATAGRAM_READER_H

#include "inbound/link_reader.h"

/* One read, and all that it gave. STEP_MORE: all of it was forwarded. STEP_RING_FULL, STEP_EVENT:
 * there may be more to drain. */
enum step datagrams_read(struct link_reader *reader, unsigned socket_index);
/* Forwards what an earlier read has left. */
enum step datagrams_drain(struct link_reader *reader);

#endif
