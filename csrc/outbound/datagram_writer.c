#define _GNU_SOURCE
#include "outbound/datagram_writer.h"

#include <errno.h>
#include <poll.h>

#include "outbound/captured_out.h"
#include "outbound/datagram_socket.h"
#include "outbound/datagram_train.h"

enum {
    /* After so many refused trains in a row whose datagrams could be sent one by one, the offload
     * is turned off. */
    TRAINS_REFUSED_MAX = 8,
};

/* How far sending has got. */
struct progress {
    enum step step;
    int n_done; /* trains */
};

static int gather_trains(struct link_writer *writer, struct batch *batch, int next,
                         struct trains *trains, int *places);
static struct progress send_trains(struct link_writer *writer, struct trains *trains);
static enum step send_some(struct link_writer *writer, struct trains *trains, int *n_done);
static void send_refused(struct link_writer *writer, struct trains *trains,
                         const struct train *train, int error);
static void send_in_fragments(struct link_writer *writer, struct trains *trains,
                              const struct train *train);
static void send_one_by_one(struct link_writer *writer, const struct trains *trains,
                            const struct train *train);
static void account_sent(struct link_writer *writer, const struct trains *trains,
                         const struct train *train, uint32_t n_failed, int error);

int datagram_writer_adopt(const struct loop_socket *where) {
    return datagram_set_may_fragment(where, false);
}

/* -- all of a batch ---------------------------------------------------------------------------- */

enum step datagrams_write(struct link_writer *writer, struct batch *batch) {
    for (int next = 0; next < batch->n;) {
        struct trains trains;
        int places[BATCH_RECORDS_MAX];
        next = gather_trains(writer, batch, next, &trains, places);
        struct progress progress = send_trains(writer, &trains);
        int end =
            progress.n_done < trains.n ? trains.trains[progress.n_done].first : trains.n_records;
        for (int i = 0; i < end; i++)
            batch->is_done[places[i]] = true;
        if (progress.step != STEP_MORE)
            return progress.step;
    }
    return STEP_MORE;
}

/* Puts the records from `next` on into trains as long as there is room, and their places in the
 * batch into `places`; returns the first that is left. */
static int gather_trains(struct link_writer *writer, struct batch *batch, int next,
                         struct trains *trains, int *places) {
    const struct writer_link *last = NULL;
    trains->n = trains->n_records = 0;
    for (; next < batch->n; next++) {
        const struct ring_view *record = batch->records[next];
        struct writer_link *link = batch->links[next];
        if (batch->is_done[next] || link == NULL || !link->format.is_datagram)
            continue;
        if (link->is_blocked) {
            captured_drop(writer, record, DROP_link_writer_inside_tunnel);
            batch->is_done[next] = true;
            continue;
        }
        if (link != last)
            datagram_refresh_endpoint(writer, link);
        if (!trains_append(trains, link, record))
            break;
        last = link;
        places[trains->n_records - 1] = next;
    }
    return next;
}

/* -- trains ------------------------------------------------------------------------------------ */

static struct progress send_trains(struct link_writer *writer, struct trains *trains) {
    struct progress progress = {STEP_MORE, 0};
    while (progress.step == STEP_MORE && progress.n_done < trains->n)
        progress.step = send_some(writer, trains, &progress.n_done);
    return progress;
}

int datagrams_send(struct link_writer *writer, struct trains *trains) {
    return send_trains(writer, trains).n_done;
}

static bool may_be_a_train(struct link_writer *writer, const struct writer_link *link) {
    const struct refusals *refusals = &link->trains;
    return datagram_socket(writer, link)->has_offload &&
           (refusals->off_until_ns == 0 || !refusals_is_off(refusals, clock_now_ns()));
}

static bool goes_by_itself(struct link_writer *writer, const struct train *train) {
    return train->may_fragment || (train->n_segments > 1 && !may_be_a_train(writer, train->link));
}

/* The trains from `first` on that go by the same socket in one call. */
static int same_call(struct link_writer *writer, const struct trains *trains, int first) {
    const struct loop_socket *where = datagram_socket(writer, trains->trains[first].link);
    int n = 0;
    while (first + n < trains->n &&
           datagram_socket(writer, trains->trains[first + n].link) == where &&
           !goes_by_itself(writer, &trains->trains[first + n]))
        n++;
    return n;
}

/* Of data the DSCP stays 0 (RFC 2983), as in the kernel's WireGuard: it would tell the path what is
 * inside. */
static struct parcel parcel_of(struct trains *trains, const struct train *train) {
    return (struct parcel){
        .iov = &trains->iov[train->first],
        .n_iov = (size_t)train->n_records,
        .segment = train->n_segments > 1 ? train->segment : 0,
        .traffic_class = (uint8_t)train->ecn,
    };
}

static void address_train(struct link_writer *writer, struct trains *trains,
                          const struct train *train, struct envelope *envelope,
                          struct msghdr *message) {
    struct parcel parcel = parcel_of(trains, train);
    datagram_address(writer, train->link, envelope, &parcel, message);
}

static void note_train_taken(struct link_writer *writer, const struct train *train) {
    struct refusals *refusals = &train->link->trains;
    if (train->n_segments > 1 && refusals->n > 0 && refusals_end(refusals))
        loop_note_news(&writer->loop, refusals);
}

/* Sends trains from *n_done on, and counts them there. */
static enum step send_some(struct link_writer *writer, struct trains *trains, int *n_done) {
    struct mmsghdr headers[TRAINS_MAX];
    struct envelope envelopes[TRAINS_MAX];
    const struct train *left = &trains->trains[*n_done];
    int fd = datagram_socket(writer, left->link)->fd;
    int n = same_call(writer, trains, *n_done);
    if (n == 0) {
        if (left->may_fragment)
            send_in_fragments(writer, trains, left);
        else
            send_one_by_one(writer, trains, left);
        ++*n_done;
        return STEP_MORE;
    }
    for (int i = 0; i < n; i++)
        address_train(writer, trains, &left[i], &envelopes[i], &headers[i].msg_hdr);
    int n_sent = sendmmsg(fd, headers, (unsigned)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(writer->loop.stats, CALL_sendmmsg);
    if (n_sent > 0)
        pace_accepted();
    for (int i = 0; i < n_sent; i++) {
        note_train_taken(writer, &left[i]);
        account_sent(writer, trains, &left[i], 0, 0);
    }
    if (n_sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        bool is_full = errno == EAGAIN; /* the network device has no room; it will */
        pace_refused();
        return is_full ? step_after_wait(
                             wait_fd(fd, POLLOUT, -1, writer->loop.channel_fd, writer->loop.stats))
                       : STEP_MORE;
    }
    if (n_sent <= 0)
        send_refused(writer, trains, left, errno);
    *n_done += n_sent > 0 ? n_sent : 1;
    return STEP_MORE;
}

/* -- what the kernel refused ------------------------------------------------------------------- */

/* Whether the segmentation in the kernel may be the cause. It is not if the buffer was full. */
static bool may_be_the_offload(int error) {
    return error != ENOBUFS && error != ENOMEM && error != EAGAIN && error != EINTR;
}

static void note_train_refused(struct link_writer *writer, const struct train *train, int error) {
    struct refusals *refusals = &train->link->trains;
    stats_add(&writer->loop.stats->counters[COUNTER_refused_offloads], 1);
    if (refusals_add(refusals, TRAINS_REFUSED_MAX, error, clock_now_ns()))
        loop_note_news(&writer->loop, refusals);
}

/* Sends each datagram of the train by itself. Returns how many were refused; *error is why. */
static uint32_t send_datagrams(struct link_writer *writer, const struct trains *trains,
                               const struct train *train, int *error) {
    uint32_t n_failed = 0;
    for (size_t offset = 0; offset < train->n_bytes;) {
        struct iovec iov = train_datagram(trains, train, offset);
        struct parcel parcel = {&iov, 1, 0, (uint8_t)train->ecn};
        int refused = datagram_send_anyhow(writer, train->link, &parcel, 0, 0);
        if (refused == EAGAIN || refused == EINTR) {
            /* Not for the channel: the train is to be finished, and the network makes room. */
            pace_refused();
            wait_fd(datagram_socket(writer, train->link)->fd, POLLOUT, -1, -1, writer->loop.stats);
            continue;
        }
        pace_accepted();
        if (refused != 0)
            *error = refused;
        n_failed += refused != 0;
        offset += iov.iov_len;
    }
    return n_failed;
}

/* The kernel refused the train with `error`. What can be sent instead shows the cause: the same
 * train without our source address, its datagrams one by one, or nothing. Only in the second case
 * is it the offload, which may not work on this peer's route (EIO: IPsec, no checksum offload;
 * EPERM: a firewall that sees a train as one long packet). */
static void send_refused(struct link_writer *writer, struct trains *trains,
                         const struct train *train, int error) {
    uint32_t n_failed = 0;
    struct parcel parcel = parcel_of(trains, train);
    int refused = datagram_send_anyhow(writer, train->link, &parcel, 0, error);
    if (refused != 0)
        n_failed = send_datagrams(writer, trains, train, &error);
    if (refused == 0)
        note_train_taken(writer, train);
    else if (n_failed == 0 && train->n_segments > 1 && may_be_the_offload(refused))
        note_train_refused(writer, train, refused);
    account_sent(writer, trains, train, n_failed, error);
}

/* -- one by one, and in fragments -------------------------------------------------------------- */

static void send_one_by_one(struct link_writer *writer, const struct trains *trains,
                            const struct train *train) {
    int error = 0;
    uint32_t n_failed = send_datagrams(writer, trains, train, &error);
    account_sent(writer, trains, train, n_failed, error);
}

/* One call for all, if each fits the device: then only a router may have to fragment them. */
static bool send_whole(struct link_writer *writer, struct trains *trains,
                       const struct train *train) {
    struct envelope envelope;
    struct msghdr message;
    if (train->n_segments == 1 || !may_be_a_train(writer, train->link))
        return false;
    address_train(writer, trains, train, &envelope, &message);
    ssize_t n =
        sendmsg(datagram_socket(writer, train->link)->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    stats_call(writer->loop.stats, CALL_sendmsg);
    return n >= 0;
}

static void send_in_fragments(struct link_writer *writer, struct trains *trains,
                              const struct train *train) {
    const struct loop_socket *where = datagram_socket(writer, train->link);
    datagram_set_may_fragment(where, true);
    if (send_whole(writer, trains, train))
        account_sent(writer, trains, train, 0, 0);
    else
        send_one_by_one(writer, trains, train);
    datagram_set_may_fragment(where, false);
}

/* -- counting ---------------------------------------------------------------------------------- */

static enum stats_drop failure_reason(struct link_writer *writer, struct writer_link *link,
                                      int error) {
    if (error == ENETUNREACH || error == EHOSTUNREACH)
        return DROP_link_writer_no_route;
    if (error != EMSGSIZE)
        return DROP_link_writer_not_sent;
    link_writer_note_too_long(writer, link);
    return DROP_link_writer_emsgsize;
}

/* A refusal that goes by what is in a datagram (a firewall's rule) comes and goes with every burst; so
 * it has ended when none came for a while. */
static void note_refused(struct link_writer *writer, struct writer_link *link, int error,
                         uint64_t now_ns) {
    if (refusals_add(&link->datagrams, 1, error, now_ns))
        loop_note_news(&writer->loop, &link->datagrams);
}

static void note_accepted(struct link_writer *writer, struct writer_link *link, uint64_t now_ns) {
    struct refusals *refusals = &link->datagrams;
    if (refusals->off_until_ns != 0 && !refusals_is_off(refusals, now_ns) && refusals_end(refusals))
        loop_note_news(&writer->loop, refusals);
}

/* Of the train's datagrams, `n_failed` did not go out, because of `error`. */
static void account_sent(struct link_writer *writer, const struct trains *trains,
                         const struct train *train, uint32_t n_failed, int error) {
    uint64_t now_ns = clock_now_ns();
    enum stats_drop reason = n_failed > 0 ? failure_reason(writer, train->link, error) : N_DROPS;
    if (reason == DROP_link_writer_not_sent || reason == DROP_link_writer_no_route)
        note_refused(writer, train->link, error, now_ns);
    else if (n_failed == 0)
        note_accepted(writer, train->link, now_ns);
    for (int i = train->first; i < train->first + train->n_records; i++) {
        const struct ring_view *record = trains->records[i];
        uint32_t n_lost = train_count_lost(record, &n_failed);
        uint32_t n_sent = record->n_packets - n_lost;
        captured_record(writer, record, n_lost > 0 ? reason : N_DROPS);
        if (n_lost > 0)
            link_writer_dropped(writer, record->slot, reason, n_lost);
        if (n_sent > 0)
            link_writer_sent(writer, record->slot, n_sent,
                             (uint32_t)((uint64_t)record->n_bytes * n_sent / record->n_packets),
                             now_ns - record->enqueued_ns);
    }
    stats_batch(writer->loop.stats, (uint64_t)train->n_records);
}

/* -- the gateway's messages -------------------------------------------------------------------- */

int datagram_send_message(struct link_writer *writer, struct writer_link *link,
                          const uint8_t *message, size_t length) {
    struct iovec iov = {(uint8_t *)(uintptr_t)message, length};
    struct parcel parcel = {&iov, 1, 0, 0};
    if (link->is_blocked)
        return -ELOOP;
    datagram_refresh_endpoint(writer, link);
    int error = datagram_send_anyhow(writer, link, &parcel, MSG_DONTWAIT, 0);
    captured_message(writer, link->slot, message, length);
    if (error == EMSGSIZE)
        link_writer_note_too_long(writer, link);
    return -error;
}
