/* stream_reader: the link-reader's streams: `u16 big-endian length | message`, again and again.
 *
 * A link's rx_buffer holds what has come and is not yet a whole message. A length that cannot be,
 * or an end inside a message, ends the link.
 */
#ifndef FASTUN_INBOUND_STREAM_READER_H
#define FASTUN_INBOUND_STREAM_READER_H

#include "inbound/link_reader.h"

/* One read, and all that it gave. STEP_MORE: all of it was forwarded. STEP_RING_FULL, STEP_EVENT:
 * there may be more to drain. */
enum step stream_read(struct link_reader *reader, unsigned slot);
/* Forwards what an earlier read has left. */
enum step stream_drain(struct link_reader *reader, unsigned slot);

#endif
