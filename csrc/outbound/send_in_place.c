/* Only what one call does: what the kernel refuses, for whatever reason, stays in the ring for the
 * link-writer, which knows what to do about it. Trains, and what is to be fragmented, are the
 * link-writer's altogether.
 */
#define _GNU_SOURCE
#include "outbound/send_in_place.h"

#include <errno.h>
#include <sys/socket.h>

#include "host/udp_address.h"
#include "outbound/fair_writer.h"
#include "outbound/stream_writer.h"
#include "shared/clock.h"
#include "shared/token.h"

enum {
    /* A peer to which the kernel refuses datagrams is left to the link-writer for so long. */
    PAUSE_MS = 1000,
    HAS_A_QUEUE_MIN = UPLINK_QUEUE_MIN / 2,
};

/* -- tun-reader: one record -------------------------------------------------------------------- */

/* Several peers may have to take turns: the link-writer is to see what waits in the kernel. */
static bool has_a_queue(const struct tun_reader *reader, int fd) {
    return reader->n_links > 1 && fair_unsent_of(fd) > HAS_A_QUEUE_MIN;
}

static struct tun_reader_link *link_of(struct tun_reader *reader, const struct ring_view *record) {
    if (record->slot >= N_PEER_SLOTS || record->segment != SEGMENT_WHOLE)
        return NULL;
    struct tun_reader_link *link = reader->links[record->slot];
    const struct peer_link *peer = &reader->loop.peers->by_link_writer[record->slot];
    uint64_t allowed = atomic_load_explicit(&peer->in_place_link, memory_order_relaxed);
    bool is_of_the_link = link != NULL && link->id == record->link_id && link->id == allowed;
    return is_of_the_link ? link : NULL;
}

static void account(struct tun_reader *reader, const struct ring_view *record) {
    struct loop *loop = &reader->loop;
    struct peer_link *peer = &loop->peers->by_link_writer[record->slot];
    stats_batch(loop->neighbour_stats, 1);
    if (record->n_packets == 0)
        return; /* a keepalive: not a user's packet */
    stats_queue_delay(loop->neighbour_stats, clock_now_ns() - record->enqueued_ns);
    stats_count(loop->neighbour_stats, record->n_packets, record->n_bytes);
    stats_add(&loop->stats->counters[COUNTER_in_place], record->n_packets);
    stats_add(&peer->transmit_packets, record->n_packets);
    stats_add(&peer->transmit_bytes, record->n_bytes);
}

static bool send_datagram(struct tun_reader *reader, struct tun_reader_link *link,
                          const struct ring_view *record) {
    struct loop *loop = &reader->loop;
    if (link->paused_until_ns > record->enqueued_ns)
        return false;
    peer_read_endpoint(&loop->peers->by_link_reader[record->slot], &link->endpoint_version,
                       &link->endpoint);
    const struct loop_socket *where = &reader->sockets[link->endpoint.socket_index % N_SOCKETS];
    if (where->fd < 0 || has_a_queue(reader, where->fd))
        return false;
    struct iovec iov = {record->payload, record->length};
    struct envelope envelope;
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    udp_address_envelope(&link->endpoint, where->family, &envelope, &message);
    if ((record->ecn & ECN_MASK) != 0)
        udp_address_write_class(&link->endpoint, (uint8_t)(record->ecn & ECN_MASK), &message);
    ssize_t n = sendmsg(where->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(loop->stats, CALL_sendmsg);
    if (n < 0)
        link->paused_until_ns = record->enqueued_ns + PAUSE_MS * (uint64_t)NS_PER_MS;
    return n >= 0;
}

/* A part leaves the rest to the link-writer. */
static bool send_on_stream(struct tun_reader *reader, struct tun_reader_link *link,
                           const struct ring_view *record) {
    struct ring_shared *shared = reader->loop.ring->shared;
    if (has_a_queue(reader, link->fd))
        return false;
    atomic_store(&shared->written_stream, record->slot + 1);
    struct iovec iov = {record->payload, record->length};
    const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(reader->loop.stats, CALL_sendmsg);
    if (n > 0 && (size_t)n < record->length)
        atomic_store(&shared->written_bytes, (uint32_t)n);
    return n == (ssize_t)record->length;
}

static bool send_record(struct tun_reader *reader, const struct ring_view *record) {
    struct tun_reader_link *link = link_of(reader, record);
    if (link == NULL)
        return false;
    bool is_sent = false;
    if (link->format.is_datagram)
        is_sent = send_datagram(reader, link, record);
    else if (link->fd >= 0)
        is_sent = send_on_stream(reader, link, record);
    if (is_sent)
        account(reader, record);
    return is_sent;
}

/* -- tun-reader: the batch --------------------------------------------------------------------- */

void send_in_place_publish(struct tun_reader *reader) {
    struct loop *loop = &reader->loop;
    struct ring *end = &loop->writers_end;
    bool corrupt = false, is_sent = true;
    if (!loop->hands_over) {
        ring_publish(loop->ring, loop->stats);
        return;
    }
    if (!ring_publish_and_take(loop->ring, IN_PLACE_BYTES_MAX, end, loop->stats))
        return;
    while (is_sent) {
        uint64_t cursor = ring_first(end);
        const struct ring_view *record = ring_peek(end, &cursor, &corrupt);
        is_sent = record != NULL && send_record(reader, record);
        if (is_sent)
            ring_release(end, cursor, loop->stats);
        atomic_store(&loop->ring->shared->written_stream, 0);
    }
    ring_give_back(loop->ring, end, loop->stats);
}

/* -- link-writer ------------------------------------------------------------------------------- */

void send_in_place_reset(struct loop *loop) {
    atomic_store(&loop->ring->shared->written_stream, 0);
    atomic_store(&loop->ring->shared->written_bytes, 0);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        peer_set(&loop->peers->by_link_writer[slot].in_place_link, 0);
}

void send_in_place_allow(struct link_writer *writer, const struct writer_link *link, bool may) {
    may = may && !link->is_blocked && !link->has_ended;
    peer_set(&writer->loop.peers->by_link_writer[link->slot].in_place_link, may ? link->id : 0);
}

void send_in_place_take_over(struct link_writer *writer) {
    struct ring_shared *shared = writer->loop.ring->shared;
    uint32_t stream = atomic_exchange(&shared->written_stream, 0);
    uint32_t n_bytes = atomic_exchange(&shared->written_bytes, 0);
    struct writer_link *link =
        stream > 0 && stream <= N_PEER_SLOTS ? writer->links[stream - 1] : NULL;
    if (link != NULL) /* the holder was killed: how much the stream has taken is unknown */
        stream_end(writer, link, ECONNABORTED);
    else if (stream == 0 && n_bytes > 0)
        stream_take_rest(writer, n_bytes);
}
