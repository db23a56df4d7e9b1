#define _GNU_SOURCE
#include "outbound/datagram_writer.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "outbound/link_writer.h"

enum {
    /* After so many refused trains in a row whose datagrams could be sent one by one, the offload
     * is turned off. */
    TRAINS_REFUSED_MAX = 8,
};

/* One sendmsg's worth. */
struct train {
    unsigned slot;
    size_t segment; /* bytes of each datagram but the last */
    size_t n_bytes;
    int n_segments;
    int first, n_records; /* of the records collected */
    bool may_fragment;
};

struct trains {
    struct train trains[TRAINS_MAX];
    int n;
    const struct ring_view *records[TRAIN_RECORDS_MAX]; /* in the order of the trains */
    struct iovec iov[TRAIN_RECORDS_MAX];
    int n_records;
};

static struct loop_socket *socket_of(struct loop *loop, unsigned slot) {
    return &loop->sockets[loop->links[slot]->endpoint.socket_index % N_SOCKETS];
}

/* -- collecting -------------------------------------------------------------------------------- */

static size_t segment_of(const struct ring_view *record) {
    bool is_one = record->segment == SEGMENT_WHOLE || record->segment == SEGMENT_FRAGMENTS;
    return is_one || record->segment > record->length ? record->length : record->segment;
}

static int segments_of(const struct ring_view *record) {
    size_t segment = segment_of(record);
    return (int)((record->length + segment - 1) / segment);
}

/* The record's datagrams can follow those of the train: that one is of whole segments so far, and
 * none here is longer. */
static bool continues(const struct train *train, const struct ring_view *record) {
    bool is_even = train->n_bytes == train->segment * (size_t)train->n_segments;
    bool is_equal = segment_of(record) == train->segment ||
                    (segments_of(record) == 1 && record->length <= train->segment);
    return train->slot == record->slot && is_even && is_equal &&
           train->may_fragment == (record->segment == SEGMENT_FRAGMENTS) &&
           train->n_segments + segments_of(record) <= TRAIN_SEGMENTS_MAX &&
           train->n_bytes + record->length <= TRAIN_BYTES_MAX;
}

/* false: there is no room for another train. */
static bool collect(struct trains *trains, const struct ring_view *record) {
    struct train *train = trains->n > 0 ? &trains->trains[trains->n - 1] : NULL;
    if (train == NULL || !continues(train, record)) {
        if (trains->n == TRAINS_MAX)
            return false;
        train = &trains->trains[trains->n++];
        *train = (struct train){
            .slot = record->slot,
            .segment = segment_of(record),
            .first = trains->n_records,
            .may_fragment = record->segment == SEGMENT_FRAGMENTS,
        };
    }
    trains->records[trains->n_records] = record;
    trains->iov[trains->n_records] = (struct iovec){record->payload, record->length};
    trains->n_records++;
    train->n_records++;
    train->n_bytes += record->length;
    train->n_segments += segments_of(record);
    return true;
}

/* -- counting ---------------------------------------------------------------------------------- */

/* How many of the record's packets are lost with the first `n_failed` datagrams of its train, less
 * those of the records before it. A super-packet's are all in one datagram, a keepalive has
 * none. */
static uint32_t count_lost(const struct ring_view *record, uint32_t *n_failed) {
    uint32_t n_datagrams = (uint32_t)segments_of(record);
    uint32_t n_lost = *n_failed < n_datagrams ? *n_failed : n_datagrams;
    *n_failed -= n_lost;
    return (uint32_t)((uint64_t)record->n_packets * n_lost / n_datagrams);
}

/* Of the train's datagrams, `n_failed` did not go out. */
static void settle(struct loop *loop, const struct trains *trains, const struct train *train,
                   uint32_t n_failed, enum stats_drop reason) {
    uint64_t now_ns = clock_now_ns();
    for (int i = train->first; i < train->first + train->n_records; i++) {
        const struct ring_view *record = trains->records[i];
        uint32_t n_lost = count_lost(record, &n_failed);
        uint32_t n_sent = record->n_packets - n_lost;
        if (n_lost > 0)
            link_writer_dropped(loop, record->slot, reason, n_lost);
        if (n_sent > 0)
            link_writer_sent(loop, record->slot, n_sent,
                             (uint32_t)((uint64_t)record->n_bytes * n_sent / record->n_packets),
                             now_ns - record->enqueued_ns);
    }
    stats_batch(loop->stats, (uint64_t)train->n_records);
}

static enum stats_drop failure_reason(struct loop *loop, unsigned slot, int error) {
    if (error != EMSGSIZE)
        return DROP_link_writer_not_sent;
    link_writer_too_long(loop, slot);
    return DROP_link_writer_emsgsize;
}

/* -- addresses --------------------------------------------------------------------------------- */

/* Whether to set our source address to the one that the peer knows. If it was removed, it may be
 * back. */
static bool has_source(struct loop_link *link) {
    if (link->sourceless_until_ns != 0 && clock_now_ns() >= link->sourceless_until_ns)
        link->sourceless_until_ns = 0;
    return link->sourceless_until_ns == 0;
}

static void address_message(struct loop *loop, unsigned slot, struct envelope *envelope,
                            struct iovec *iov, size_t n_iov, struct msghdr *message) {
    struct loop_link *link = loop->links[slot];
    *message = (struct msghdr){.msg_iov = iov, .msg_iovlen = n_iov};
    udp_address_envelope(&link->endpoint, socket_of(loop, slot)->family, envelope, message);
    if (!has_source(link))
        message->msg_controllen = 0; /* the routing table chooses the source */
}

/* `segment` 0: the iov is one datagram. */
static void address_segments(struct loop *loop, unsigned slot, struct envelope *envelope,
                             struct iovec *iov, size_t n_iov, size_t segment,
                             struct msghdr *message) {
    uint16_t segment_length = (uint16_t)segment;
    address_message(loop, slot, envelope, iov, n_iov, message);
    if (segment > 0)
        control_append(message, IPPROTO_UDP, UDP_SEGMENT, &segment_length, sizeof segment_length);
}

static void address_train(struct loop *loop, struct trains *trains, const struct train *train,
                          struct envelope *envelope, struct msghdr *message) {
    address_segments(loop, train->slot, envelope, &trains->iov[train->first],
                     (size_t)train->n_records, train->n_segments > 1 ? train->segment : 0, message);
}

/* -- one message, with or without our source address ------------------------------------------ */

/* Whether a source address is set and `error` may be about it: it may have been removed since the
 * peer learned it, or may not be usable as a source (anycast). Linux returns EINVAL; recent
 * versions ENETUNREACH for IPv4. */
static bool may_be_the_source(struct loop_link *link, int error) {
    static const uint8_t unknown[sizeof link->endpoint.local];
    return (error == EINVAL || error == ENETUNREACH || error == EADDRNOTAVAIL) &&
           memcmp(link->endpoint.local, unknown, sizeof unknown) != 0 && has_source(link);
}

static int send_once(struct loop *loop, unsigned slot, struct iovec *iov, size_t n_iov,
                     size_t segment, int flags) {
    struct envelope envelope;
    struct msghdr message;
    address_segments(loop, slot, &envelope, iov, n_iov, segment, &message);
    ssize_t n = sendmsg(socket_of(loop, slot)->fd, &message, MSG_NOSIGNAL | flags);
    int error = n < 0 ? errno : 0;
    stats_call(loop->stats, CALL_sendmsg);
    return error;
}

/* The message was refused with `error`, or not yet sent (0). If our source address may be the
 * cause, it is sent without; if that works, the address is not used for a while. Returns 0 or the
 * errno. */
static int send_anyhow(struct loop *loop, unsigned slot, struct iovec *iov, size_t n_iov,
                       size_t segment, int flags, int error) {
    struct loop_link *link = loop->links[slot];
    if (error == 0)
        error = send_once(loop, slot, iov, n_iov, segment, flags);
    if (!may_be_the_source(link, error))
        return error;
    link->sourceless_until_ns = clock_now_ns() + REFUSED_RETRY_NS;
    error = send_once(loop, slot, iov, n_iov, segment, flags);
    if (error != 0)
        link->sourceless_until_ns = 0; /* the address was not the cause */
    return error;
}

/* -- one by one -------------------------------------------------------------------------------- */

/* The bytes of the train's datagram that begins at `offset`: never across two records, since a
 * record holds whole datagrams. */
static struct iovec datagram_at(const struct trains *trains, const struct train *train,
                                size_t offset) {
    int i = train->first;
    while (offset >= trains->iov[i].iov_len)
        offset -= trains->iov[i++].iov_len;
    size_t left = trains->iov[i].iov_len - offset;
    return (struct iovec){(uint8_t *)trains->iov[i].iov_base + offset,
                          left < train->segment ? left : train->segment};
}

/* Sends each datagram of the train by itself. Returns how many were refused; *error is why. */
static uint32_t send_singly(struct loop *loop, const struct trains *trains,
                            const struct train *train, int *error) {
    uint32_t n_failed = 0;
    for (size_t offset = 0; offset < train->n_bytes;) {
        struct iovec iov = datagram_at(trains, train, offset);
        int refused = send_anyhow(loop, train->slot, &iov, 1, 0, 0, 0);
        if (refused == EAGAIN || refused == EINTR) {
            /* Not for the channel: the train is to be finished, and the network makes room. */
            wait_fd(socket_of(loop, train->slot)->fd, POLLOUT, -1, -1, loop->stats);
            continue;
        }
        if (refused != 0)
            *error = refused;
        n_failed += refused != 0;
        offset += iov.iov_len;
    }
    return n_failed;
}

/* "Don't fragment" is set on the socket, not on the datagram (ip(7), ipv6(7)). Neither mode uses
 * the kernel's PMTU cache, which anyone can write to by ICMP. Both use the device's MTU; OMIT
 * fragments what is longer, and lets IPv4 routers fragment. IPv6 routers do not, so there fragments
 * have the size that fits every path (IPV6_MTU, RFC 8200 section 5), which is set only for this
 * datagram because it would apply to all. Returns 0 or -errno. */
static int set_may_fragment(const struct loop_socket *where, bool may) {
    int discover = may ? IP_PMTUDISC_OMIT : IP_PMTUDISC_PROBE, cut_to = may ? IPV6_MTU_MIN : 0;
    int result = setsockopt(where->fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
    if (where->family == AF_INET6) {
        result |= setsockopt(where->fd, IPPROTO_IPV6, IPV6_MTU, &cut_to, sizeof cut_to);
        result |=
            setsockopt(where->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover, sizeof discover);
    }
    return result < 0 ? -errno : 0;
}

int datagram_writer_adopt(const struct loop_socket *where) {
    return set_may_fragment(where, false);
}

static void pass_singly(struct loop *loop, const struct trains *trains, const struct train *train) {
    int error = 0;
    uint32_t n_failed = send_singly(loop, trains, train, &error);
    settle(loop, trains, train, n_failed,
           n_failed > 0 ? failure_reason(loop, train->slot, error) : N_DROPS);
}

static bool may_be_a_train(struct loop *loop, unsigned slot) {
    const struct refusals *refusals = &loop->links[slot]->trains;
    return socket_of(loop, slot)->has_offload &&
           (refusals->off_until_ns == 0 || !refusals_is_off(refusals, clock_now_ns()));
}

/* One call for all, if each fits the device: then only a router may have to fragment them. */
static bool send_whole(struct loop *loop, struct trains *trains, const struct train *train) {
    struct loop_socket *where = socket_of(loop, train->slot);
    struct envelope envelope;
    struct msghdr message;
    if (train->n_segments == 1 || !may_be_a_train(loop, train->slot))
        return false;
    address_train(loop, trains, train, &envelope, &message);
    ssize_t n = sendmsg(where->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(loop->stats, CALL_sendmsg);
    return n >= 0;
}

static void pass_in_fragments(struct loop *loop, struct trains *trains, const struct train *train) {
    const struct loop_socket *where = socket_of(loop, train->slot);
    set_may_fragment(where, true);
    if (send_whole(loop, trains, train))
        settle(loop, trains, train, 0, N_DROPS);
    else
        pass_singly(loop, trains, train);
    set_may_fragment(where, false);
}

/* -- trains ------------------------------------------------------------------------------------ */

/* Whether the segmentation in the kernel may be the cause. It is not if the buffer was full. */
static bool may_be_the_offload(int error) {
    return error != ENOBUFS && error != ENOMEM && error != EAGAIN && error != EINTR;
}

static void note_train_taken(struct loop *loop, const struct train *train) {
    struct refusals *refusals = &loop->links[train->slot]->trains;
    if (train->n_segments > 1 && refusals->n > 0 && refusals_end(refusals))
        loop_note_news(loop, refusals);
}

static void note_train_refused(struct loop *loop, const struct train *train, int error) {
    struct refusals *refusals = &loop->links[train->slot]->trains;
    stats_add(&loop->stats->counters[COUNTER_refused_offloads], 1);
    if (refusals_add(refusals, TRAINS_REFUSED_MAX, error, clock_now_ns()))
        loop_note_news(loop, refusals);
}

/* The kernel refused the train with `error`. What can be sent instead shows the cause: the same
 * train without our source address, its datagrams one by one, or nothing. Only in the second case
 * is it the offload, which may not work on this peer's route (EIO: IPsec, no checksum offload;
 * EPERM: a firewall that sees a train as one long packet). */
static void pass_refused(struct loop *loop, struct trains *trains, const struct train *train,
                         int error) {
    uint32_t n_failed = 0;
    int refused =
        send_anyhow(loop, train->slot, &trains->iov[train->first], (size_t)train->n_records,
                    train->n_segments > 1 ? train->segment : 0, 0, error);
    if (refused != 0)
        n_failed = send_singly(loop, trains, train, &error);
    if (refused == 0)
        note_train_taken(loop, train);
    else if (n_failed == 0 && train->n_segments > 1 && may_be_the_offload(refused))
        note_train_refused(loop, train, refused);
    settle(loop, trains, train, n_failed,
           n_failed > 0 ? failure_reason(loop, train->slot, error) : N_DROPS);
}

static bool goes_singly(struct loop *loop, const struct train *train) {
    return train->may_fragment || (train->n_segments > 1 && !may_be_a_train(loop, train->slot));
}

/* The trains from `first` on that go by the same socket in one call. */
static int same_call(struct loop *loop, const struct trains *trains, int first) {
    const struct loop_socket *where = socket_of(loop, trains->trains[first].slot);
    int n = 0;
    while (first + n < trains->n && socket_of(loop, trains->trains[first + n].slot) == where &&
           !goes_singly(loop, &trains->trains[first + n]))
        n++;
    return n;
}

/* Sends trains from `first` on. Returns how many are done, or 0 when the doorbell rang. */
static int send_some(struct loop *loop, struct trains *trains, int first) {
    struct mmsghdr headers[TRAINS_MAX];
    struct envelope envelopes[TRAINS_MAX];
    const struct train *trains_left = &trains->trains[first];
    int fd = socket_of(loop, trains_left->slot)->fd;
    int n = same_call(loop, trains, first);
    if (n == 0) {
        if (trains_left->may_fragment)
            pass_in_fragments(loop, trains, trains_left);
        else
            pass_singly(loop, trains, trains_left);
        return 1;
    }
    for (int i = 0; i < n; i++)
        address_train(loop, trains, &trains_left[i], &envelopes[i], &headers[i].msg_hdr);
    int n_sent = sendmmsg(fd, headers, (unsigned)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(loop->stats, CALL_sendmmsg);
    for (int i = 0; i < n_sent; i++) {
        note_train_taken(loop, &trains_left[i]);
        settle(loop, trains, &trains_left[i], 0, N_DROPS);
    }
    if (n_sent > 0)
        return n_sent;
    if (errno == EAGAIN) /* the network device has no room; it will */
        return wait_fd(fd, POLLOUT, -1, loop->channel_fd, loop->stats) == WAIT_READY ? -1 : 0;
    if (errno == EINTR)
        return -1;
    pass_refused(loop, trains, trains_left, errno);
    return 1;
}

static int send_trains(struct loop *loop, struct trains *trains) {
    int n_done = 0;
    while (n_done < trains->n) {
        int n = send_some(loop, trains, n_done);
        if (n == 0)
            break;
        n_done += n > 0 ? n : 0;
    }
    return n_done;
}

/* -- all of a batch ---------------------------------------------------------------------------- */

static void refresh_endpoint(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    if (peer_read_endpoint(&loop->peers->slots[slot], &link->endpoint_version, &link->endpoint))
        link->sourceless_until_ns = 0;
}

enum datagrams_end datagrams_write(struct loop *loop, const struct ring_view *const *records,
                                   bool *is_done, int n) {
    int next = 0;
    while (next < n) {
        struct trains trains = {.n = 0};
        int places[TRAIN_RECORDS_MAX];
        for (; next < n; next++) {
            if (is_done[next] || !link_writer_is_datagram(loop, records[next]))
                continue;
            if (loop->links[records[next]->slot]->is_blocked) {
                link_writer_dropped(loop, records[next]->slot, DROP_link_writer_inside_tunnel,
                                    records[next]->n_packets);
                is_done[next] = true;
                continue;
            }
            if (trains.n == 0 || trains.trains[trains.n - 1].slot != records[next]->slot)
                refresh_endpoint(loop, records[next]->slot);
            if (!collect(&trains, records[next]))
                break;
            places[trains.n_records - 1] = next;
        }
        int n_done = send_trains(loop, &trains);
        int end = n_done < trains.n ? trains.trains[n_done].first : trains.n_records;
        for (int i = 0; i < end; i++)
            is_done[places[i]] = true;
        if (n_done < trains.n)
            return DATAGRAMS_STOPPED;
    }
    return DATAGRAMS_DONE;
}

/* -- the gateway's messages -------------------------------------------------------------------- */

int datagram_write(struct loop *loop, unsigned slot, const uint8_t *message, size_t length) {
    struct iovec iov = {(uint8_t *)(uintptr_t)message, length};
    if (loop->links[slot]->is_blocked)
        return -ELOOP;
    refresh_endpoint(loop, slot);
    int error = send_anyhow(loop, slot, &iov, 1, 0, MSG_DONTWAIT, 0);
    if (error == EMSGSIZE)
        link_writer_too_long(loop, slot);
    return -error;
}
