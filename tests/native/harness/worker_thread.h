/* worker_thread: one of the four loops in a thread, attached to its ring and its statistics as the
 * worker's process would be. */
#ifndef WORKER_THREAD_H
#define WORKER_THREAD_H

#include <pthread.h>

#include "lane_memory.h"
#include "loop/loop.h"

struct worker_thread {
    enum stats_role role;
    struct ring *ring;
    struct ring *hairpin; /* NULL: there is no switch */
    unsigned lane;        /* its number of two, where there are two; before it is opened */
    struct ring *from_lane, *to_lane;
    struct loop *loop;
    int channel[2]; /* ours, the loop's */
    pthread_t thread;
    enum loop_end end;
};

/* The loop is made but does not run yet: loop_attach_link comes before worker_start. It takes the
 * side of the ring that the test does not have. */
void worker_open(struct worker_thread *worker, enum stats_role role, enum wire wire, enum mode mode,
                 const struct lane_memory *lane, int device_fd);
void worker_start(struct worker_thread *worker);
/* Waits until the loop returns by itself. */
enum loop_end worker_join(struct worker_thread *worker);
/* Runs the loop in this thread until it has nothing left to do: a message waits on the channel,
 * whose number of bytes is 1. Another end than LOOP_DOORBELL leaves it there. */
enum loop_end worker_run(struct worker_thread *worker);
/* Rings the doorbell as the gateway does, and waits. */
enum loop_end worker_stop(struct worker_thread *worker);
void worker_close(struct worker_thread *worker);

#endif
