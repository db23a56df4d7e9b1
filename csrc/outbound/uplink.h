/* uplink: how much of what was sent still waits in this host's kernel, and how much more to hand it.
 *
 * What the kernel has queued (a queueing discipline, the network card's ring) goes out in its order,
 * first in, first out as a rule. So where more is sent than the uplink takes, all peers wait behind
 * one another there, unless the kernel gets only as much as it needs to be busy until the next look.
 * That is what BQL does between the kernel's queue and the card, and TSQ between TCP and that queue.
 *
 *   looks          the bytes of all sockets that have not left, as the kernel counts them
 *   it is full     more has waited at every look of UPLINK_FULL_MS than leaves in UPLINK_DELAY_MS
 *   the limit      what leaves in `wait_ns` at the rate measured meanwhile: more if the kernel ran dry
 *                  between two looks, and less as long as it does not
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
    /* Three datagrams; the kernel counts 2304 bytes for one of 1500. */
    UPLINK_LIMIT_MIN = 3 * 2304,
    UPLINK_WAIT_MIN_NS = 300 * 1000,
    UPLINK_WAIT_FIRST_NS = 1000 * 1000,
    UPLINK_WAIT_MAX_NS = 16 * 1000 * 1000,
    UPLINK_STUCK_MIN_NS = 10 * 1000 * 1000,
    UPLINK_STUCK_MAX_NS = 250 * 1000 * 1000,
    UPLINK_SLEEP_MIN_NS = 60 * 1000,
    UPLINK_SLEEP_MAX_NS = 2 * 1000 * 1000,
    UPLINK_MEASURE_NS = 2 * 1000 * 1000,
};

struct uplink {
    uint64_t looked_ns;
    uint64_t n_unsent; /* bytes that were in the kernel then */
    uint64_t n_stuck;  /* of them, that do not leave */
    uint64_t moved_ns; /* when any last left, or there was room for more */
    uint64_t since_ns; /* it has been full since then; 0: it is not */
    uint64_t rate;     /* bytes a second that leave */
    uint64_t wait_ns;  /* how long what the kernel has may take to leave */
    uint64_t begun_ns; /* the rate is measured again since then: */
    uint64_t n_left;   /* bytes that have left, */
    bool ran_dry;      /* and whether there was nothing left at some look */
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
/* As much was handed to the kernel since, or has left, that it has that much now. */
void uplink_set_unsent(struct uplink *uplink, uint64_t n_unsent);
/* What the kernel may have in all, */
uint64_t uplink_limit(const struct uplink *uplink);
/* and how much more. */
uint64_t uplink_room(const struct uplink *uplink);
/* Until half of the limit has left, of what the kernel has. */
uint64_t uplink_sleep_ns(const struct uplink *uplink);

#endif
