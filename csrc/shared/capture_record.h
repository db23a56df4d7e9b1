/* capture_record: how a captured frame or message lies in the ring of a capture.
 *
 * A ring_record with these meanings:
 *
 *     link_id      stage, and CAPTURE_INBOUND
 *     slot         the peer's, or N_PEER_SLOTS: unknown, or many
 *     segment      the enum stats_drop for which it was dropped; N_DROPS: it was not
 *     n_bytes      its length; of which the payload has as much as the capture wants
 *     enqueued_ns  CLOCK_REALTIME
 *     payload      struct capture_path, and the bytes
 */
#ifndef FASTUN_SHARED_CAPTURE_RECORD_H
#define FASTUN_SHARED_CAPTURE_RECORD_H

#include "capture.h"

enum { CAPTURE_STAGE_MASK = 3, CAPTURE_INBOUND = 4 };

/* Between which addresses a message travels; on a stream, and of a frame, nothing is known. */
struct capture_path {
    struct udp_address endpoint;
    uint16_t local_port;
};

#endif
