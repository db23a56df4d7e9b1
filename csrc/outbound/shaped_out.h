/* shaped_out: a frame of the device for a peer with a rate limit waits, passes or is dropped; and what
 * waits goes on (loop/shaping.h). Used by the tun-reader alone.
 */
#ifndef FASTUN_OUTBOUND_SHAPED_OUT_H
#define FASTUN_OUTBOUND_SHAPED_OUT_H

#include "outbound/frame.h"

/* Whether the frame passes now; what is dropped is counted. The peer has a limit. */
bool shaped_out_take(struct tun_reader *reader, const struct frame *frame,
                     const struct arrival *arrival);
/* Forwards the frames whose time has come. false: the ring is full. */
bool shaped_out_release(struct tun_reader *reader);

#endif
