/* datagram_batch: what one recvmmsg of a UDP socket gave, taken one datagram at a time.
 *
 * With UDP_GRO the kernel hands over many datagrams of one sender in one buffer, all as long as the
 * first but for the last; the length comes as a control message (udp(7)). The buffers stay between
 * two calls, so that a reader whose ring is full can come back for the rest.
 */
#ifndef FASTUN_INBOUND_DATAGRAM_BATCH_H
#define FASTUN_INBOUND_DATAGRAM_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "host/udp_address.h"
#include "packet/ecn.h"

enum {
    /* Half a megabyte of buffers: several of the longest GRO trains a call, and still near the
     * core's cache. */
    DATAGRAM_BUFFERS = 8,
    DATAGRAM_BUFFER = 65536,
};

struct datagram_batch {
    struct mmsghdr headers[DATAGRAM_BUFFERS];
    struct iovec iov[DATAGRAM_BUFFERS];
    struct sockaddr_in6 sources[DATAGRAM_BUFFERS];
    _Alignas(struct cmsghdr) uint8_t controls[DATAGRAM_BUFFERS][ENVELOPE_CONTROL_SIZE];
    uint8_t *buffers;
    int n, at;     /* buffers filled; the one that is being taken from */
    size_t offset; /* of the next datagram in it */
    size_t segment;
    enum ecn ecn; /* of the outer headers of all in the buffer: the kernel joins none that differ */
    unsigned socket_index;
    struct udp_address endpoint; /* the sender of the next datagram */
};

/* Returns 0 or -errno. */
int datagram_batch_init(struct datagram_batch *batch);
void datagram_batch_free(struct datagram_batch *batch);
/* Reads what there is without waiting. Returns the number of buffers filled, or -errno. */
int datagram_batch_receive(struct datagram_batch *batch, int fd, unsigned socket_index);
/* The next datagram, without moving on. false: all have been taken. */
bool datagram_batch_peek(struct datagram_batch *batch, const uint8_t **bytes, size_t *length);
void datagram_batch_advance(struct datagram_batch *batch);

static inline bool datagram_batch_has_more(const struct datagram_batch *batch) {
    return batch->at < batch->n;
}

#endif
