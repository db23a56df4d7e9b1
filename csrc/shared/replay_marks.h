/* replay_marks: up to where each session's messages have been accepted, in memory of the link-reader
 * alone.
 *
 * A link-reader that accepts a message stores here what its replay window has come to, before anything
 * that the message contains is in a ring or on its way to the gateway. Its successor, which starts when
 * it has been reaped, refuses all below: what was accepted once is not accepted again, and of what was
 * under way in that instant the messages that the network had overtaken are lost.
 *
 * A key has one mark as long as the link-reader opens under it. One writer, one reader, never at once.
 */
#ifndef FASTUN_SHARED_REPLAY_MARKS_H
#define FASTUN_SHARED_REPLAY_MARKS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "counters.h"
#include "shared/peer_table.h"

struct replay_mark {
    _Atomic uint64_t name; /* 1 + the key's index; 0: no key has it */
    _Atomic uint64_t next; /* all counters below are used up */
};

struct replay_marks {
    alignas(64) struct replay_mark of_slot[N_PEER_SLOTS][MARKS_A_SLOT];
};

static inline void replay_mark_set(struct replay_mark *mark, uint64_t next) {
    atomic_store_explicit(&mark->next, next, memory_order_relaxed);
}

static inline uint64_t replay_mark_next(const struct replay_mark *mark) {
    return atomic_load_explicit(&mark->next, memory_order_relaxed);
}

/* The mark of a key, left by a predecessor; NULL: there is none. */
struct replay_mark *replay_marks_find(struct replay_marks *marks, unsigned slot, uint32_t index);
/* Begins anew for another key. */
void replay_mark_begin(struct replay_mark *mark, uint32_t index);
/* Its key opens nothing any more, and is none for a successor. */
void replay_mark_end(struct replay_mark *mark);

#endif
