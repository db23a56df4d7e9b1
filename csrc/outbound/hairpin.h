/* hairpin: frames of one peer of a TAP device for others, from the link-reader.
 *
 * They are taken as the device's are, but the address that they go to has been looked up. What the
 * ring holds another process has written: it is checked like anything from the kernel, and its
 * offload header once more where the frame is made a message. Belongs to the tun-reader.
 */
#ifndef FASTUN_OUTBOUND_HAIRPIN_H
#define FASTUN_OUTBOUND_HAIRPIN_H

#include "outbound/frame.h"

/* Forwards and publishes what is there, up to a burst. STEP_IDLE: no more is there. */
enum step hairpin_burst(struct tun_reader *reader);
/* Sleeps until the device or the hairpin has a frame, or the time has passed (-1: never). */
enum step hairpin_wait(struct tun_reader *reader, int timeout_ms);

#endif
