/* capture: what the C library offers to `fastun capture`, the second half of fastun.h, by its rules.
 *
 * A worker copies what it takes in and gives out into one more ring, made for as long as the capture
 * lasts, and never waits for room there: what finds none is counted as lost. The ring's consumer is
 * the capturing process, so that the gateway is not in the way.
 */
#ifndef FASTUN_CAPTURE_H
#define FASTUN_CAPTURE_H

#include "fastun.h"

enum capture_stage {
    CAPTURE_DEVICE, /* frames as they are read from the device, and written to it */
    CAPTURE_SEALED, /* messages as they are on the link */
    CAPTURE_OPENED, /* frames as they came out of messages, before they are checked */
    N_CAPTURE_STAGES,
};

enum {
    CAPTURE_ALL_PEERS = -1,
    CAPTURE_SNAP_MAX = 65536 + 32, /* the longest frame, and the longest message */
    CAPTURE_HEADERS_MAX = 48,      /* what a message is given in front, beside its bytes */
};

/* Between two runs: copy the first `snap_length` bytes of all at these stages (bits: 1 << stage), of
 * one peer or CAPTURE_ALL_PEERS, to `ring`, which stays the caller's; NULL: no more. What is of an
 * unknown peer is of no peer. */
int loop_capture(struct loop *loop, struct ring *ring, unsigned stages, int slot,
                 size_t snap_length);

/* What a capturing process writes. */
struct capture_output {
    uint32_t interfaces[3]; /* by stage: its number in the file */
    uint64_t n_packets[3];  /* by stage: that were written */
    uint64_t n_left;        /* so many more at most */
};

/* Takes what is in the rings, the oldest first, and writes it to `to` as blocks of a pcapng file, up
 * to `room` bytes, of which CAPTURE_BLOCK_MAX may stay unused. Returns how many bytes that is, or
 * -EBADMSG: a ring's memory was damaged. */
enum { CAPTURE_BLOCK_MAX = CAPTURE_SNAP_MAX + 1024 };
int capture_read(struct ring *const *rings, size_t n_rings, struct capture_output *output,
                 uint8_t *to, size_t room);
/* What found no room, since the ring was made. */
uint64_t capture_lost(struct ring *ring, unsigned stage);

#endif
