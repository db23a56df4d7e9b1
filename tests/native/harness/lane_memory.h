/* lane_memory: what the gateway makes for a lane and each worker attaches to: a ring, the
 * statistics and the peer table. The test is the worker at the ring's far end: it produces for a
 * writer and consumes from a reader. */
#ifndef LANE_MEMORY_H
#define LANE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "fastun.h"
#include "shared/mac_table.h"
#include "shared/peer_table.h"
#include "shared/replay_marks.h"
#include "shared/ring.h"
#include "shared/sending_counters.h"
#include "shared/stats.h"

struct lane_memory {
    size_t ring_bytes;
    int ring_fd, stats_fd, peers_fd, sending_fd, marks_fd;
    bool hands_over;   /* to be set before a worker is opened */
    int wake_fd;       /* the outbound ring's eventfd; -1: none */
    struct ring *ring; /* the test's end */
    struct stats *stats;
    struct peer_table *peers;
    struct sending_counters *sending;
    struct replay_marks *marks;
    struct mac_table *macs; /* NULL: there is no switch */
    struct ring *hairpin;   /* the test's end */
    int macs_fd, hairpin_fd, hairpin_wake_fd;
    struct ring *from_lane, *to_lane; /* the test's ends, as another lane's tun-reader; or NULL */
    int lane_fds[2], lane_wake_fds[2];
    struct stats_block ring_stats; /* what the test's end counts */
};

void lane_memory_open(struct lane_memory *lane, size_t ring_bytes);
/* The test's end wakes its worker by an eventfd, as a tun-reader does. */
void lane_memory_add_wake_fd(struct lane_memory *lane);
/* A TAP device has many peers; before the worker is opened. */
void lane_memory_add_switch(struct lane_memory *lane);
/* The worker is the tun-reader of lane 0 of two, or of lane 1; before it is opened. */
void lane_memory_add_lane(struct lane_memory *lane);
void lane_memory_close(struct lane_memory *lane);

/* -- the ring ---------------------------------------------------------------------------------- */

/* Puts a record in the ring, not yet published; `record` says all but where its payload is, which
 * is for the caller to fill. NULL: the ring is full. */
struct ring_record *lane_try_commit(struct lane_memory *lane, const struct ring_record *record);
/* The same with room for it, and the payload 0. */
struct ring_record *lane_commit(struct lane_memory *lane, struct ring_record record);
void lane_publish(struct lane_memory *lane);
/* All that are in the ring, and stay there. */
size_t lane_count_records(struct lane_memory *lane);

/* -- counters ---------------------------------------------------------------------------------- */

uint64_t lane_dropped_in_all(const struct lane_memory *lane);
/* `n` packets were dropped for this reason (N_DROPS: none), and none for another. */
void lane_check_dropped(const struct lane_memory *lane, unsigned reason, uint64_t n);
/* A field of the peer's row, by name. */
uint64_t lane_peer_field(const struct lane_memory *lane, unsigned slot, const char *name);

#endif
