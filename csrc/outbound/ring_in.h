/* ring_in: the tun-reader's frames that come from another worker's ring, and not from the device.
 *
 * They are given back only when what they have become is in the outbound ring, and published: a
 * successor would find them here.
 */
#ifndef FASTUN_OUTBOUND_RING_IN_H
#define FASTUN_OUTBOUND_RING_IN_H

#include "outbound/frame.h"

/* What becomes of one. `record` has FRAME_SPACE; the view's payload another process may change. */
typedef void ring_in_forward(struct tun_reader *reader, struct ring_record *record,
                             const struct ring_view *view, struct arrival *arrival);

/* Forwards and publishes what is there, up to a burst. STEP_IDLE: no more is there. */
enum step ring_in_burst(struct tun_reader *reader, struct ring *ring, ring_in_forward *forward);
/* Copies the frame to where the device would have written it, as far as it says that it goes. */
struct frame ring_in_copy(struct tun_reader *reader, struct ring_record *record,
                          const struct ring_view *view);

#endif
