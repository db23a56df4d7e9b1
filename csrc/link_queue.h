/* link_queue: what waits for one full socket, so that it delays nobody else's.
 *
 * Private to the link-writer. A ring is first in, first out over all peers: records of a peer whose
 * socket is full are copied here, in order and whole, and the ring goes on. Memory: one stretch of
 * LINK_QUEUE_ROOM of addresses, whose pages cost nothing until they are used; one wave of
 * congestion later they stay until the link goes.
 */
#ifndef FASTUN_LINK_QUEUE_H
#define FASTUN_LINK_QUEUE_H

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
};

struct link_queue {
    uint8_t *memory;
    size_t start, end; /* of the entries, in bytes */
    size_t n_sent;     /* bytes of the first entry that the socket has taken */
};

/* What is counted when an entry has gone out. */
struct queue_entry {
    uint32_t length;
    uint32_t n_packets; /* 0: a handshake message */
    uint32_t n_bytes;
    uint64_t enqueued_ns; /* when it entered the ring */
};

static inline bool link_queue_is_empty(const struct link_queue *queue) {
    return queue->start == queue->end;
}

/* Returns 0 or -errno. */
int link_queue_init(struct link_queue *queue);
/* Appends a copy. false: there is no room. */
bool link_queue_append(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes);
/* Fills iov with what is next to write; returns how many. */
int link_queue_gather(struct link_queue *queue, struct iovec *iov, int n_max);
/* After n bytes were written: takes the next entry that has gone out whole. false: none. Call with
 * n first, then with 0 until it is false. */
bool link_queue_settle(struct link_queue *queue, size_t n, struct queue_entry *entry);
/* The bytes of the first entry, of which there is one. */
const uint8_t *link_queue_first(const struct link_queue *queue, struct queue_entry *entry);
/* Takes the first entry, sent or not. false: empty. */
bool link_queue_take(struct link_queue *queue, struct queue_entry *entry);
void link_queue_free(struct link_queue *queue);

#endif
