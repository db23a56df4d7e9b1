/* token: the right to consume from a ring, which a sleeping consumer lends to its producer.
 *
 * Waking a neighbour for one small packet costs more than its step does. So a consumer that goes to
 * sleep with nothing left to do (no queue, no half-written message, nothing to report, no capture)
 * offers the token; a producer that has just published a small batch takes it, does the consumer's
 * step itself, as far as that goes without waiting, and gives it back. What is left, the consumer
 * does, which is then woken.
 *
 * The token is in the consumer's `asleep` (wait.h), beside how it sleeps:
 *
 *     AWAKE --(consumer goes to sleep)--> OFFERED --(producer)--> OFFERED|HELD --(done)--> OFFERED
 *                                            |                         |
 *       AWAKE <--(consumer or waker)---------'                         |--(rest)---------> AWAKE
 *       AWAKE <--(producer: done)-- OFFERED|HELD|WANTED <--(consumer)--|
 *       AWAKE <--(consumer)-------- OFFERED|ORPHANED <--(gateway)------'
 *
 * Invariants:
 *   - Only the holder reads records, moves the ring's tail, writes the consumer's counters, and
 *     writes to what the consumer writes to. An awake consumer is the holder. So nothing that the
 *     gateway orders of a consumer (a link detached, a socket replaced) runs beside a producer's
 *     step.
 *   - Only the producer ever holds what is offered; it does not wait while it does.
 *   - A holder that was killed gives nothing back. The gateway, after it has reaped it, says so
 *     (ORPHANED); the consumer then takes over as from a killed predecessor (loop/reconcile.h).
 */
#ifndef FASTUN_SHARED_TOKEN_H
#define FASTUN_SHARED_TOKEN_H

#include "shared/wait.h"

enum {
    /* Ring bytes of a batch that is handled in place: a packet or two. What is more is better
     * coalesced, or sent in trains, while the next is being read. */
    IN_PLACE_BYTES_MAX = 4096,
};

/* -- producer -- */

/* After it has published. false: it is not offered; wake the consumer. */
bool token_take(struct waiter *consumer);
/* With `has_rest` the consumer is woken. */
void token_give_back(struct waiter *consumer, bool has_rest, int wake_fd,
                     struct stats_block *stats);

/* -- consumer -- */

/* When awake again, and at its start. Waits for a holder, which is one system call long. true: the
 * holder was killed. */
bool token_regain(struct waiter *self, int channel_fd);

/* -- gateway -- */

/* The producer is dead and reaped. true: it was the holder; a consumer that sleeps on descriptors
 * is still to be woken. */
bool token_orphan(struct waiter *consumer);

#endif
