/* uplink: how much of what was sent still waits in this host's kernel, and how much more to hand it.
 *
 * What the kernel has queued (a queueing discipline, the network card's ring) goes out in its order,
 * first in, first out as a rule. So where more is sent than the uplink takes, all peers wait behind
 * one another there, unless the kernel gets only as much as it needs to be busy until the next look.
 * That is what BQL does between the kernel's queue and the card, and TSQ between TCP and that queue.
 *
 *   looks          the bytes of all sockets that have not left, as the kernel counts them
 *   it is full     more has waited at every look of UPLINK_FULL_MS than leaves in UPLINK_DELAY_MS
 *   the limit      what leaves in `wait_ns` at the rate measured meanwhile: more if too much time was
 *                  lost, since the kernel had nothing, and else less, down to one datagram
 *   first          peers that send little are not held up by it
 *   stuck          what does not leave at all, say of one device of several: it does not count, so that
 *                  all others go on
 *
 * Figures and times only: sockets are fair_writer.c's.
 */
#ifndef FASTUN_OUTBOUND_UPLINK_H
#define FASTUN_OUTBOUND_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

enum {
    UPLINK_LOOK_MS = 5,
    UPLINK_DELAY_MS = 3,
    UPLINK_FULL_MS = 20,
    /* Less does not count: a fast network card has as much. */
    UPLINK_QUEUE_MIN = 16 * 1024,
    UPLINK_DATAGRAM = 2304, /* what the kernel counts for one of 1500 bytes */
    /* The limit while the rate is measured anew, each so many times. */
    UPLINK_PROBE_MIN = 3 * UPLINK_DATAGRAM,
    UPLINK_PROBE_EVERY = 16,
    UPLINK_FIRST = 4 * UPLINK_DATAGRAM, /* beyond the limit, for peers that send little */
    /* Of the time may be lost 1.6 %, and 5 % for each ms that what the kernel has takes to leave beyond two
     * datagrams. */
    UPLINK_IDLE_PART = 64,
    UPLINK_WORTH_ALL_US = 20 * 1000,
    UPLINK_PAUSE_NS =
        500 * 1000, /* of a pause so much more counts than what the kernel has lasts */
    UPLINK_WAIT_MIN_NS = 100 * 1000,
    UPLINK_WAIT_FIRST_NS = 1000 * 1000,
    UPLINK_WAIT_MAX_NS = 16 * 1000 * 1000,
    UPLINK_STUCK_MIN_NS = 10 * 1000 * 1000,
    UPLINK_STUCK_MAX_NS = 250 * 1000 * 1000,
    UPLINK_SLEEP_MIN_NS = 50 * 1000,
    UPLINK_SLEEP_MAX_NS = 2 * 1000 * 1000,
    /* A measurement: so long, and so many bytes if they leave in time. */
    UPLINK_MEASURE_NS = 8 * 1000 * 1000,
    UPLINK_MEASURE_BYTES = 16 * UPLINK_DATAGRAM,
    UPLINK_MEASURE_MAX_NS = 100 * 1000 * 1000,
};

struct uplink {
    uint64_t looked_ns;
    uint64_t n_looked;        /* bytes that were in the kernel then, */
    uint64_t n_handed;        /* that it was given since, */
    uint64_t n_unsent;        /* and that it has now */
    uint64_t n_stuck;         /* of them, that do not leave */
    uint64_t moved_ns;        /* when any last left, or there was room for more */
    uint64_t since_ns;        /* it has been full since then; 0: it is not */
    uint64_t rate;            /* bytes a second that leave */
    uint64_t wait_ns;         /* how long what the kernel has may take to leave */
    uint64_t dry_ns;          /* when the kernel last had nothing, */
    int64_t n_left_since_dry; /* and bytes that have left since */
    uint64_t begun_ns;        /* all is measured again since then: */
    int64_t n_left;           /* bytes that have left, */
    int64_t idle_ns;          /* the time that was lost for want of any, */
    bool ran_dry;             /* and whether there were none at some look */
    bool has_probe;           /* meanwhile the limit is larger, */
    unsigned n_measured;      /* which it is each so many times */
};

/* Whether a look is due that uplink_is_full wants. */
static inline bool uplink_is_look_due(const struct uplink *uplink, uint64_t now_ns) {
    return now_ns - uplink->looked_ns >= UPLINK_LOOK_MS * 1000000ull;
}
/* A look while the kernel gets all at once: `n_handed` bytes since the last one. Whether the
 * uplink is full. */
bool uplink_is_full(struct uplink *uplink, uint64_t n_unsent, uint64_t n_handed, uint64_t now_ns);

/* A look while the kernel gets no more than the limit; more waits to be sent, or does not. */
void uplink_look(struct uplink *uplink, uint64_t n_unsent, bool has_more, uint64_t now_ns);
/* So many bytes, as the kernel counts them, were handed to it; now it has that many. */
void uplink_handed(struct uplink *uplink, uint64_t n_bytes, uint64_t n_unsent);
/* What the kernel may have in all, */
uint64_t uplink_limit(const struct uplink *uplink);
/* how much more, */
uint64_t uplink_room(const struct uplink *uplink);
/* and how much more of peers that send little: behind what the kernel has they wait in any case, and
 * here for the worker's timer as well. */
uint64_t uplink_room_for_first(const struct uplink *uplink);
/* Until it has room again. */
uint64_t uplink_sleep_ns(const struct uplink *uplink);

#endif
