#define _GNU_SOURCE
#include "datagram_writer.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "link_writer.h"

enum {
    /* So many refused trains that went out well one by one are no accident of the route. */
    OFFLOAD_FAULTS_MAX = 8,

    IPV6_MTU_MIN = 1280,
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
    const struct ring_record *records[TRAIN_RECORDS_MAX]; /* in the order of the trains */
    struct iovec iov[TRAIN_RECORDS_MAX];
    int n_records;
};

static struct loop_socket *socket_of(struct loop *loop, unsigned slot) {
    return &loop->sockets[loop->links[slot]->endpoint.socket_index % N_SOCKETS];
}

/* -- collecting -------------------------------------------------------------------------------- */

static size_t segment_of(const struct ring_record *record) {
    bool is_one = record->segment == SEGMENT_WHOLE || record->segment == SEGMENT_FRAGMENTS;
    return is_one || record->segment > record->length ? record->length : record->segment;
}

static int segments_of(const struct ring_record *record) {
    size_t segment = segment_of(record);
    return (int)((record->length + segment - 1) / segment);
}

/* The record's datagrams can follow those of the train: that one is of whole segments so far, and
 * none here is longer. */
static bool continues(const struct train *train, const struct ring_record *record) {
    bool is_even = train->n_bytes == train->segment * (size_t)train->n_segments;
    bool is_equal = segment_of(record) == train->segment ||
                    (segments_of(record) == 1 && record->length <= train->segment);
    return train->slot == record->slot && is_even && is_equal &&
           train->may_fragment == (record->segment == SEGMENT_FRAGMENTS) &&
           train->n_segments + segments_of(record) <= TRAIN_SEGMENTS_MAX &&
           train->n_bytes + record->length <= TRAIN_BYTES_MAX;
}

/* false: there is no room for another train. */
static bool collect(struct trains *trains, const struct ring_record *record) {
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
    trains->iov[trains->n_records] = (struct iovec){ring_payload(record), record->length};
    trains->n_records++;
    train->n_records++;
    train->n_bytes += record->length;
    train->n_segments += segments_of(record);
    return true;
}

/* -- counting ---------------------------------------------------------------------------------- */

/* How many of the record's packets are lost with the first `n_failed` datagrams of its train, less
 * those of the records before it. A super-packet's are all in one datagram, a keepalive has none.
 */
static uint32_t count_lost(const struct ring_record *record, uint32_t *n_failed) {
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
        const struct ring_record *record = trains->records[i];
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
    return DROP_link_writer_too_long;
}

/* -- addresses --------------------------------------------------------------------------------- */

static void address_message(struct loop *loop, unsigned slot, struct envelope *envelope,
                            struct iovec *iov, size_t n_iov, struct msghdr *message) {
    *message = (struct msghdr){.msg_iov = iov, .msg_iovlen = n_iov};
    endpoint_address(&loop->links[slot]->endpoint, socket_of(loop, slot)->family, envelope,
                     message);
}

static void address_train(struct loop *loop, struct trains *trains, const struct train *train,
                          struct envelope *envelope, struct msghdr *message) {
    uint16_t segment = (uint16_t)train->segment;
    address_message(loop, train->slot, envelope, &trains->iov[train->first],
                    (size_t)train->n_records, message);
    if (train->n_segments > 1)
        control_append(message, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
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
    int fd = socket_of(loop, train->slot)->fd;
    uint32_t n_failed = 0;
    for (size_t offset = 0; offset < train->n_bytes;) {
        struct iovec iov = datagram_at(trains, train, offset);
        struct envelope envelope;
        struct msghdr message;
        address_message(loop, train->slot, &envelope, &iov, 1, &message);
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
        stats_call(loop->stats, CALL_sendmsg);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            /* Not for the channel: the train is to be finished, and the network makes room. */
            wait_fd(fd, POLLOUT, -1, -1, loop->stats);
            continue;
        }
        if (n < 0)
            *error = errno;
        n_failed += n < 0;
        offset += iov.iov_len;
    }
    return n_failed;
}

/* "Don't fragment" belongs to the socket, not to the datagram (ip(7), ipv6(7)). Neither mode heeds
 * the kernel's PMTU cache, in which anyone can write by ICMP: PROBE and OMIT go by the device's
 * MTU, OMIT cuts what is longer, and in IPv4 lets routers cut. Those of IPv6 do not, so there all
 * is cut to what every path takes (IPV6_MTU, which would hold for all datagrams: RFC 8200 section
 * 5). Returns 0 or -errno. */
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

/* One call for all, where each fits the device: then it is a router that may have to cut them. */
static bool send_whole(struct loop *loop, struct trains *trains, const struct train *train) {
    struct loop_socket *where = socket_of(loop, train->slot);
    struct envelope envelope;
    struct msghdr message;
    if (train->n_segments == 1 || !where->has_offload)
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

/* The kernel refused the train with `error`. Its offload may not work on this route or at all
 * (EIO: no checksum offload; EINVAL: also a segment over the MTU), our address may have gone. */
static void pass_refused(struct loop *loop, const struct trains *trains, const struct train *train,
                         int error) {
    struct loop_link *link = loop->links[train->slot];
    struct loop_socket *where = socket_of(loop, train->slot);
    if (error == EINVAL || error == ENETUNREACH || error == EADDRNOTAVAIL)
        memset(link->endpoint.local, 0, sizeof link->endpoint.local);
    uint32_t n_failed = send_singly(loop, trains, train, &error);
    if (n_failed == 0 && train->n_segments > 1 && ++where->n_offload_faults >= OFFLOAD_FAULTS_MAX)
        where->has_offload = false;
    settle(loop, trains, train, n_failed,
           n_failed > 0 ? failure_reason(loop, train->slot, error) : N_DROPS);
}

static bool goes_singly(struct loop *loop, const struct train *train) {
    return train->may_fragment ||
           (train->n_segments > 1 && !socket_of(loop, train->slot)->has_offload);
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
    for (int i = 0; i < n_sent; i++)
        settle(loop, trains, &trains_left[i], 0, N_DROPS);
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
    peer_read_endpoint(&loop->peers->slots[slot], &link->endpoint_version, &link->endpoint);
}

enum datagrams_end datagrams_write(struct loop *loop, const struct ring_record *const *records,
                                   bool *is_done, int n) {
    int next = 0;
    while (next < n) {
        struct trains trains = {.n = 0};
        int places[TRAIN_RECORDS_MAX];
        for (; next < n; next++) {
            if (is_done[next] || !link_writer_is_datagram(loop, records[next]))
                continue;
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
    struct envelope envelope;
    struct msghdr header;
    refresh_endpoint(loop, slot);
    address_message(loop, slot, &envelope, &iov, 1, &header);
    ssize_t n = sendmsg(socket_of(loop, slot)->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    int error = n < 0 ? errno : 0;
    stats_call(loop->stats, CALL_sendmsg);
    if (error == EMSGSIZE)
        link_writer_too_long(loop, slot);
    return -error;
}
