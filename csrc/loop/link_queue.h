/* link_queue: what waits for one full socket, for one peer's turn on a full uplink, or for its rate
 * limit, and delays no other.
 *
 * Private to its worker. A ring is first in, first out over all peers: records of a peer whose
 * socket is full are copied here, in order and whole, and the ring goes on. So are frames before the
 * ring, whose peer has a rate limit (shaping.h) or no session yet (outbound/parking.h).
 *
 * Memory: a mapping of LINK_QUEUE_ROOM bytes, whose pages cost nothing until they are used. A queue
 * always has LINK_QUEUE_SHARE of them, enough for any one message. What it uses beyond that comes
 * from a pool that all queues of the worker share. So all queues together hold at most N_PEER_SLOTS
 * shares and the pool, 128 MiB for a link-writer, however many peers do not read. When the pool is
 * used up, a queue with less than an equal part of it is entitled to more, which the queue with the
 * most gives up (link_writer.c). A queue's part of the pool is returned when it is empty.
 */
#ifndef FASTUN_LOOP_LINK_QUEUE_H
#define FASTUN_LOOP_LINK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    /* Some thirty longest frames, as in a ring: what a healthy TCP path may fall behind for a
     * moment. A peer that does not read holds no more than this. */
    LINK_QUEUE_BYTES = 2 * 1024 * 1024,
    /* Twice that, so that entries are moved to the front only after as many bytes have gone out:
     * a byte is moved once at most, however full the queue is. */
    LINK_QUEUE_ROOM = 2 * LINK_QUEUE_BYTES,
    /* Whole pages for the longest message with its header. */
    LINK_QUEUE_SHARE = 72 * 1024,
    LINK_POOL_BYTES = 56 * 1024 * 1024,
    /* Keeps a queue that fills and empties all the time from returning its pages each time. */
    LINK_QUEUE_RETURN_MS = 1000,
};

/* Memory that one worker's queues use beyond their shares. */
struct queue_pool {
    size_t max; /* bytes, as is n_used */
    size_t n_used;
    unsigned n_queues; /* queues that use any of it */
};

struct link_queue {
    uint8_t *memory;
    struct queue_pool *pool;
    size_t start, end;    /* of the entries, in bytes */
    size_t n_sent;        /* bytes of the first entry that the socket has taken */
    size_t inserted_end;  /* of the last entry that was inserted */
    size_t n_paged;       /* bytes from `memory` on that may have pages */
    uint64_t returned_ns; /* CLOCK_MONOTONIC: when pages were last returned */
};

/* What is counted when an entry has gone out. */
struct queue_entry {
    uint32_t length;
    uint32_t n_packets; /* 0: a handshake message */
    uint32_t n_bytes;
    uint32_t is_rest;     /* the rest of a message that is partly sent */
    uint32_t segment;     /* of a datagram: as in its record, */
    uint32_t ecn;         /* as is this */
    uint32_t waits;       /* on a stream: 1 + its flow, of which it waits; 0: it was inserted */
    uint64_t enqueued_ns; /* when it entered the ring */
};

static inline bool link_queue_is_empty(const struct link_queue *queue) {
    return queue->start == queue->end;
}

/* Returns 0 or -errno. The pool has to outlive the queue. */
int link_queue_init(struct link_queue *queue, struct queue_pool *pool);
/* Appends a copy. false: there is no room. */
bool link_queue_append(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes);
/* Inserts a copy behind the first entry, which may be partly sent, and those that were inserted before.
 * false: the queue is empty, or there is no room without moving all that waits. */
bool link_queue_insert(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes);
/* Fills iov with what is next to write; returns how many. */
int link_queue_gather(struct link_queue *queue, struct iovec *iov, int n_max);
/* After n bytes were written: removes the next entry that is out whole. false: none. Call with
 * n first, then with 0 until it is false. */
bool link_queue_consume(struct link_queue *queue, size_t n, struct queue_entry *entry);
/* The bytes of the first entry, of which there is one. */
const uint8_t *link_queue_first(const struct link_queue *queue, struct queue_entry *entry);
/* The entry at *place (begin with queue->start), which is moved past it. NULL: there are no more. */
const uint8_t *link_queue_peek(const struct link_queue *queue, size_t *place,
                               struct queue_entry *entry);
/* Removes the first entry, sent or not. false: empty. */
bool link_queue_pop(struct link_queue *queue, struct queue_entry *entry);
/* Bytes of the pool that it uses. */
size_t link_queue_pooled(const struct link_queue *queue);
/* Whether it would use no more than an equal part of the pool with such an entry appended. */
bool link_queue_is_owed(const struct link_queue *queue, size_t entry_length);
/* Drops all entries except one that is partly sent, and returns its part of the pool. Returns the
 * number of dropped packets. */
uint64_t link_queue_cut(struct link_queue *queue);
/* Returns an empty queue's part of the pool, unless it did so recently. */
void link_queue_rest(struct link_queue *queue, uint64_t now_ns);
void link_queue_free(struct link_queue *queue);

#endif
