/* shaped_in: a frame from a peer with a rate limit waits, passes or is dropped; and what waits goes on
 * (loop/shaping.h). Used by the link-reader alone.
 */
#ifndef FASTUN_INBOUND_SHAPED_IN_H
#define FASTUN_INBOUND_SHAPED_IN_H

#include "inbound/link_reader.h"

/* Whether the frame passes now; what is dropped is counted. The peer has a limit. The room for a
 * virtio_net_hdr in front of the frame may be overwritten. */
bool shaped_in_take(struct link_reader *reader, unsigned slot,
                    const struct message_inbound *inbound, uint64_t now_ns);
/* Brings into the ring the frames whose time has come, as far as there is room. */
void shaped_in_release(struct link_reader *reader);

#endif
