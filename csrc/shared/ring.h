/* ring: records of frames from one worker to its neighbour, through shared memory.
 *
 * Single producer, single consumer, each its own process. The memory (one memfd):
 *
 *     0       struct ring_shared: size, head, tail and the two waiters, a cache line each
 *     4096    the data, size_bytes (a power of two) long
 *
 * The data is mapped twice, back to back, so a record that starts near the end runs on into the
 * second view and never wraps. head and tail are free-running byte counts: head - tail is the
 * fill, position modulo size the place. There are no pointers in shared memory.
 *
 * Both ends survive a kill: what was reserved but not published is as if it had never been, and
 * what was peeked at but not released is there for the successor; but what a consumer has begun to
 * give out, in a way in which it could come out twice, its successor leaves alone. Packets are
 * numbered, so that either knows how many went through before it (reconcile.h). A consumer reads each
 * record's header once, into memory of its own, and checks and follows only that copy: what the
 * producer writes there afterwards changes nothing.
 */
#ifndef FASTUN_SHARED_RING_H
#define FASTUN_SHARED_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/wait.h"

enum {
    RING_DATA_OFFSET = 4096,
    /* Records start on cache lines, so producer and consumer never write to the same one. */
    RING_RECORD_ALIGN = 64,
    RING_SIZE_MIN = 1 << 18,
    RING_SIZE_MAX = 1 << 28,
    /* Views that are valid at the same time: no writer's batch has more records. */
    RING_VIEWS_MAX = 256,
};

/* How many packets were in all records before `index`, since the ring was made. */
struct ring_ledger {
    _Atomic uint64_t index;
    _Atomic uint64_t n_packets;
};

struct ring_shared {
    uint32_t magic;
    uint32_t size_bytes;
    alignas(64) _Atomic uint64_t head; /* written by the producer, */
    struct ring_ledger published[2];   /* and before it one of these: that of head is true */
    alignas(64) _Atomic uint64_t tail; /* written by the consumer */
    alignas(64) struct waiter producer;
    alignas(64) struct waiter consumer;
    /* Outbound, the token holder's (outbound/send_in_place.h): the slot + 1 of the stream that is
     * being written, and how much of the first record it has taken. */
    alignas(64) _Atomic uint32_t written_stream;
    _Atomic uint32_t written_bytes;
    _Atomic uint64_t begun; /* the token holder's: the end of what it has begun to give out */
    alignas(64) _Atomic uint64_t n_lost[3]; /* a capture's: by stage, what found no room */
};

/* Stands before each record. `space` is the whole record with this header; the payload begins
 * `offset` bytes from the header's start, so that a producer can leave room in front. */
struct ring_record {
    uint32_t space;
    uint32_t offset;
    uint32_t length;
    uint32_t n_packets;
    uint32_t n_bytes; /* of the packets inside, as counted in the statistics */
    uint32_t slot;    /* outbound: the peer that it goes to */
    uint32_t link_id; /* outbound: the link that it was laid out for */
    uint32_t segment; /* outbound: bytes of each datagram in it but the last, or a value below */
    uint32_t ecn;     /* outbound: of the packets in it, all the same (enum ecn) */
    uint32_t flow;    /* outbound: 1 + the number of the flow of what is in it; 0: unknown */
    uint64_t enqueued_ns; /* CLOCK_MONOTONIC */
    uint64_t n_before;    /* packets in all records before it */
};

enum ring_segment {
    SEGMENT_WHOLE = 0,              /* a stream's bytes, or one datagram */
    SEGMENT_FRAGMENTS = UINT32_MAX, /* one datagram, which may be fragmented on its way */
};

/* A consumer's view of a record: a checked copy of its header. The payload stays in the ring, lies
 * wholly inside it, and is the only part that the producer may still change. */
struct ring_view {
    uint8_t *payload;
    uint32_t length;
    uint32_t n_packets;
    uint32_t n_bytes;
    uint32_t slot;
    uint32_t link_id;
    uint32_t segment;
    uint32_t ecn;
    uint32_t flow;
    uint64_t enqueued_ns;
    uint64_t end; /* the cursor behind it */
};

/* A process's own handle. */
struct ring {
    struct ring_shared *shared;
    uint8_t *data;
    uint64_t size;
    uint64_t head;      /* the producer's: commits not yet published included */
    uint64_t tail;      /* the consumer's */
    uint64_t peer;      /* the other side's index when last read */
    uint64_t n_packets; /* the producer's: in all commits, since the ring was made */
    int wake_fd;        /* the consumer's eventfd, or -1 where it sleeps on the futex only */
    uint32_t spin_ns; /* the consumer's: how long it looks again before it sleeps; 0: not at all */
    bool sleeps_long; /* the consumer's: nothing has come for a while */
    bool is_offered;  /* the consumer's: its work may be done for it while it sleeps (token.h) */
    bool is_orphaned; /* the consumer's: that one was killed; it takes over as from a predecessor */
    unsigned next_view; /* the consumer's next one of `views` */
    struct ring_view views[RING_VIEWS_MAX];
};

/* -- producer ---------------------------------------------------------------------------------- */

/* Room for a record of `space` bytes, header included, or NULL. Valid until ring_commit. */
struct ring_record *ring_reserve(struct ring *ring, size_t space);
/* Appends the reserved record, whose fields but `space` and `n_before` are filled in. Not yet
 * visible. */
void ring_commit(struct ring *ring, struct ring_record *record);
/* Makes all commits visible and wakes the consumer if it sleeps. */
void ring_publish(struct ring *ring, struct stats_block *stats);
/* The same, and where the consumer sleeps and offers it, takes its token: true, and `as_consumer` is
 * a consumer's handle, with which the records can be peeked at and released until
 * ring_give_back. Only for a batch of at most n_bytes_max bytes of the ring. */
bool ring_publish_and_take(struct ring *ring, size_t n_bytes_max, struct ring *as_consumer,
                           struct stats_block *stats);
/* What is not released is left to the consumer. */
void ring_give_back(struct ring *ring, struct ring *as_consumer, struct stats_block *stats);
/* Sleeps until a record of `space` bytes may fit. */
enum wait_end ring_wait_space(struct ring *ring, size_t space, int channel_fd,
                              struct stats_block *stats);
/* The same for so long at most, less than a second. */
enum wait_end ring_wait_space_for(struct ring *ring, size_t space, uint64_t most_ns, int channel_fd,
                                  struct stats_block *stats);

static inline bool ring_has_unpublished(const struct ring *ring) {
    return ring->head != atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
}

/* -- consumer ---------------------------------------------------------------------------------- */

/* The record at *cursor (begin with ring_first) and moves *cursor past it; NULL when there is none.
 * *corrupt is set when the memory holds an impossible record: call ring_discard. The view is valid
 * until its record is released, or RING_VIEWS_MAX more were peeked at. */
const struct ring_view *ring_peek(struct ring *ring, uint64_t *cursor, bool *corrupt);
/* Before a step that would pass on once more what is before `cursor`, were it done twice. Whether a
 * holder that is killed from now on has done it cannot be found out, so it is not done again. */
static inline void ring_begin(struct ring *ring, uint64_t cursor) {
    atomic_store_explicit(&ring->shared->begun, cursor, memory_order_relaxed);
}
/* A successor's, or the consumer's whose holder was killed: releases what was begun. */
void ring_leave_begun(struct ring *ring, struct stats_block *stats);
/* Gives all before `cursor` back to the producer and wakes it if it waits for that. */
void ring_release(struct ring *ring, uint64_t cursor, struct stats_block *stats);
/* Empties the ring. */
void ring_discard(struct ring *ring, struct stats_block *stats);
/* Announces that the consumer goes to sleep on descriptors, wake_fd among them. false: there is a
 * record at the cursor or the bell has rung, so do not. When awake again, or not asleep,
 * waiter_cancel(consumer), or ring_regain where the token was offered. */
bool ring_prepare_poll(struct ring *ring, uint64_t cursor);
/* Takes the token, at the consumer's start and when it is awake again; ring_wait_record does. */
void ring_regain(struct ring *ring, int channel_fd);
/* Sleeps until there is a record at the cursor. Afterwards the first record may be another:
 * ring_first. */
enum wait_end ring_wait_record(struct ring *ring, uint64_t cursor, int channel_fd,
                               struct stats_block *stats);

/* Packets in all records that were given back, by this consumer or those before it. */
uint64_t ring_released_packets(const struct ring *ring);

static inline uint64_t ring_first(const struct ring *ring) {
    return ring->tail;
}

/* The producer's. */
static inline uint8_t *ring_payload(const struct ring_record *record) {
    return (uint8_t *)(uintptr_t)record + record->offset;
}

#endif
