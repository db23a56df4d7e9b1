/* pace: what the kernel refuses is tried again, but not as fast as a processor can.
 *
 * A call that fails although what it waited for is there (no memory, a policy, a damaged driver)
 * would be made again at once, and again: a core would be busy with nothing. So after a few refusals
 * in a row the worker rests between two. Only refusals look at the clock; what works costs a store.
 *
 * The row is the thread's: a worker has one, and makes one call at a time.
 */
#ifndef FASTUN_SHARED_PACE_H
#define FASTUN_SHARED_PACE_H

enum {
    PACE_FREE = 4,       /* so many come by chance */
    PACE_WINDOW_MS = 20, /* longer than a rest, so that a row goes on behind it */
    PACE_REST_MS = 5,    /* 200 tries a second: some thousandths of a core */
};

/* A call was refused, and is to be made again. */
void pace_refused(void);
/* It was not: the row ends. */
void pace_accepted(void);

/* Sleeps for PACE_REST_MS, for nothing in particular: also where the call that fails is one of those
 * that sleep. */
void pace_rest(void);

#endif
