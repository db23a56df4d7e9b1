/* worker_thread: one of the four loops in a thread, attached to its ring and its statistics as the
 * worker's process would be. */
#ifndef WORKER_THREAD_H
#define WORKER_THREAD_H

#include <pthread.h>

#include "loop/loop.h"

struct worker_thread {
    enum stats_role role;
    struct ring *ring;
    struct loop *loop;
    int channel[2]; /* ours, the loop's */
    pthread_t thread;
    enum loop_end end;
};

/* What the workers of a lane share; descriptors stay the caller's. */
struct worker_lane {
    enum wire wire;
    enum mode mode;
    size_t ring_bytes;
    struct stats *stats;
    struct peer_table *peers;
    int wake_fd; /* the outbound ring's eventfd, or -1 */
};

/* The loop is made but does not run yet: loop_attach_link comes before worker_start. */
void worker_open(struct worker_thread *worker, enum stats_role role, const struct worker_lane *lane,
                 int ring_fd, int device_fd);
void worker_start(struct worker_thread *worker);
/* Waits until the loop returns by itself. */
enum loop_end worker_join(struct worker_thread *worker);
/* Rings the doorbell as the gateway does, and waits. */
enum loop_end worker_stop(struct worker_thread *worker);
void worker_close(struct worker_thread *worker);

#endif
