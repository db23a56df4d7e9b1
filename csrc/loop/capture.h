/* capture: copies of what a worker takes in and gives out, for `fastun capture`.
 *
 * What becomes of a frame is known only after it was copied. So it is begun, whose it is and why it
 * was dropped is noted when that is found, and it is ended:
 *
 *     capture_begin --> capture_of_peer, capture_drop --> capture_end --> capture_publish
 *
 * One at a time: what is begun ends the one before. Without a capture a loop's `capture` is NULL,
 * and that is all that a frame costs.
 */
#ifndef FASTUN_LOOP_CAPTURE_H
#define FASTUN_LOOP_CAPTURE_H

#include <stdbool.h>
#include <sys/uio.h>

#include "shared/capture_record.h"
#include "shared/ring.h"
#include "shared/stats.h"

enum { CAPTURED_OF_NONE = -1, CAPTURED_OF_ALL = -2 };

/* What is copied. */
struct captured {
    enum capture_stage stage;
    bool is_inbound;
    int slot;                           /* of its peer, or a CAPTURED_OF_ */
    const struct udp_address *endpoint; /* of a message on UDP; else NULL */
};

struct capture {
    struct ring *ring; /* the caller's */
    struct stats_block *stats;
    unsigned stages;
    int slot;
    size_t snap_length;
    uint16_t local_ports[N_SOCKETS]; /* by the socket's index */

    bool is_open;               /* one is begun */
    struct captured what;       /* its endpoint is used up */
    enum stats_drop reason;     /* N_DROPS: it is not dropped */
    struct ring_record *record; /* NULL: there was no room */
    struct ring_record header;
};

/* NULL: there is no memory. */
struct capture *capture_new(struct ring *ring, struct stats_block *stats, unsigned stages, int slot,
                            size_t snap_length);
void capture_free(struct capture *capture);

/* The bytes are copied now. */
void capture_begin(struct capture *capture, const struct captured *what, const struct iovec *iov,
                   size_t n_iov);
/* Puts it in the ring, if it is of the peer that is wanted. */
void capture_end(struct capture *capture);
/* Shows what was put in the ring to the reader; after one or many. */
void capture_publish(struct capture *capture);
/* It will come again. */
void capture_abandon(struct capture *capture);

/* What is open is of this peer. Without a capture, nothing. */
static inline void capture_of_peer(struct capture *capture, int slot) {
    if (capture != NULL)
        capture->what.slot = slot;
}

/* What is open is dropped. Without a capture, nothing. */
static inline void capture_drop(struct capture *capture, enum stats_drop reason) {
    if (capture != NULL)
        capture->reason = reason;
}

/* A frame, its virtio_net_hdr not included. */
void capture_frame(struct capture *capture, const struct captured *what, const uint8_t *bytes,
                   size_t length);

#endif
