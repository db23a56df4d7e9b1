/* link-writer: the last stage of the outbound direction.
 *
 *   1. wait for a record in the ring, or for a full socket to have room again
 *   2. gather a batch from the ring, and look up each record's link
 *   3. write it: what goes by UDP with as few calls as it takes (datagram_writer.c), what goes by
 *      streams link by link (stream_writer.c); count what is out, and what is dropped
 *   4. release
 *
 * On the unsealed wires a packet waits NO_LINK_WAIT_MS for a link, so that a reconnect in that time
 * loses nothing; what was sealed for a link that is gone is of no use to the next one. This worker
 * alone consumes the outbound ring and alone writes the sockets.
 */
#define _GNU_SOURCE
#include "outbound/link_writer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "loop/reconcile.h"
#include "outbound/captured_out.h"
#include "outbound/datagram_writer.h"
#include "outbound/fair_writer.h"
#include "outbound/queued.h"
#include "outbound/send_in_place.h"
#include "outbound/stream_path.h"
#include "outbound/stream_writer.h"
#include "shared/clock.h"

enum {
    BATCH_BYTES_MAX = 1024 * 1024,
    EPOLL_EVENTS_MAX = 64,
    /* WireGuard holds 128 packets a peer while it has no session; we hold by age, since a frame
     * here may be 64 KiB. One second covers the restart of any worker and the re-dial. */
    NO_LINK_WAIT_MS = 1000,
    NO_LINK_LOOK_MS = 100,
    /* The kernel reports when a full socket has room. One that it called full for another reason has
     * room all the time, and no report comes. */
    FULL_LOOK_MS = 500,
};

static enum step next_step(struct link_writer *writer);
static struct writer_link *link_of(struct link_writer *writer, const struct ring_view *record);
static enum step write_batch(struct link_writer *writer, struct batch *batch);
static enum step wait_without_link(struct link_writer *writer);
static enum step wait_for_record(struct link_writer *writer);
static enum step wait_for_work(struct link_writer *writer);

static struct writer_link *link_at(struct link_writer *writer, unsigned slot) {
    struct writer_link *link = slot < N_PEER_SLOTS ? writer->links[slot] : NULL;
    return link != NULL && !link->has_ended && link->broken == 0 ? link : NULL;
}

/* -- the loop ---------------------------------------------------------------------------------- */

enum loop_end link_writer_loop(struct link_writer *writer) {
    enum step step = STEP_MORE;
    while (step == STEP_MORE && !waiter_is_rung(writer->loop.self))
        step = next_step(writer);
    return loop_end_of(step);
}

static bool is_held(struct link_writer *writer) {
    return writer->loop.wire != WIRE_WIREGUARD && link_at(writer, 0) == NULL;
}

/* The only link is full: what is in the ring has to wait. */
static bool is_stuck(const struct link_writer *writer) {
    return writer->n_links == 1 && writer->n_full == 1;
}

static enum step next_step(struct link_writer *writer) {
    struct batch batch;
    if (link_writer_has_report(writer))
        return link_writer_report(writer);
    if (is_held(writer))
        return wait_without_link(writer);
    if (writer->fair.is_on)
        return fair_step(writer);
    if (!is_stuck(writer) && link_writer_gather(writer, &batch))
        return write_batch(writer, &batch);
    return wait_for_work(writer);
}

/* -- the batch --------------------------------------------------------------------------------- */

bool link_writer_gather(struct link_writer *writer, struct batch *batch) {
    struct loop *loop = &writer->loop;
    uint64_t cursor = ring_first(loop->ring);
    size_t n_bytes = 0;
    bool corrupt = false;
    int next = 0;
    batch->has_flows = false;
    for (batch->n = 0; batch->n < BATCH_RECORDS_MAX && n_bytes < BATCH_BYTES_MAX; batch->n++) {
        const struct ring_view *record = ring_peek(loop->ring, &cursor, &corrupt);
        if (record == NULL)
            break;
        batch->records[batch->n] = record;
        batch->links[batch->n] = link_of(writer, record);
        batch->ends[batch->n] = cursor;
        batch->is_done[batch->n] = early_has(&writer->early, &next, cursor);
        batch->has_flows |= record->flow != 0;
        n_bytes += record->length;
    }
    if (batch->n == 0 && corrupt) {
        stats_dropped(loop->stats, DROP_link_writer_ring_corrupt, 1);
        ring_discard(loop->ring, loop->stats);
    }
    return batch->n > 0;
}

/* The link that the record was made for, or NULL when that is gone. */
static struct writer_link *link_of(struct link_writer *writer, const struct ring_view *record) {
    struct writer_link *link = link_at(writer, record->slot);
    /* What was sealed for a link that is gone cannot be opened at the end of the next one. */
    if (link != NULL && writer->loop.wire == WIRE_WIREGUARD && link->id != record->link_id)
        return NULL;
    return link;
}

static enum step write_batch(struct link_writer *writer, struct batch *batch) {
    enum step step = datagrams_write(writer, batch);
    int n_done = streams_write(writer, batch);
    fair_watch(writer);
    if (n_done > 0)
        ring_release(writer->loop.ring, batch->ends[n_done - 1], writer->loop.stats);
    return step;
}

/* -- counting ---------------------------------------------------------------------------------- */

void link_writer_sent(struct link_writer *writer, unsigned slot, uint32_t n_packets,
                      uint32_t n_bytes, uint64_t delay_ns) {
    struct loop *loop = &writer->loop;
    if (n_packets == 0)
        return; /* a keepalive or a handshake message: not a user's packet */
    n_packets = reconcile_uncounted(loop, n_packets);
    stats_queue_delay(loop->stats, delay_ns);
    stats_count(loop->stats, n_packets, n_bytes);
    stats_add(&loop->peers->by_link_writer[slot].transmit_packets, n_packets);
    stats_add(&loop->peers->by_link_writer[slot].transmit_bytes, n_bytes);
}

void link_writer_dropped(struct link_writer *writer, unsigned slot, enum stats_drop reason,
                         uint32_t n_packets) {
    struct loop *loop = &writer->loop;
    n_packets = reconcile_uncounted(loop, n_packets);
    stats_dropped(loop->stats, reason, n_packets);
    if (slot < N_PEER_SLOTS)
        stats_add(&loop->peers->by_link_writer[slot].dropped_packets, n_packets);
}

/* -- waiting ----------------------------------------------------------------------------------- */

static void drop_expired(struct link_writer *writer) {
    struct loop *loop = &writer->loop;
    uint64_t cursor = ring_first(loop->ring), released = cursor;
    uint64_t now_ns = clock_now_ns();
    bool corrupt = false;
    int next = 0;
    const struct ring_view *record;
    while ((record = ring_peek(loop->ring, &cursor, &corrupt)) != NULL &&
           record->enqueued_ns + NO_LINK_WAIT_MS * 1000000ull < now_ns) {
        if (!early_has(&writer->early, &next, cursor))
            captured_drop(writer, record, DROP_link_writer_no_link);
        released = cursor;
    }
    if (released != ring_first(loop->ring))
        ring_release(loop->ring, released, loop->stats);
}

static enum step wait_without_link(struct link_writer *writer) {
    struct loop *loop = &writer->loop;
    drop_expired(writer);
    if (ring_used_bytes(loop->ring) == 0)
        return wait_for_record(writer);
    return step_after_wait(wait_fd(-1, 0, NO_LINK_LOOK_MS, loop->channel_fd, loop->stats));
}

/* An edge that is lost would leave a link full for ever. By the clock: messages of the gateway may
 * come so often that no wait ends by its time. */
static void resume_all_at_times(struct link_writer *writer) {
    uint64_t now_ns = clock_now_ns();
    if (writer->n_full == 0 || now_ns - writer->resumed_ns < FULL_LOOK_MS * 1000000ull)
        return;
    writer->resumed_ns = now_ns;
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        if (link_at(writer, slot) != NULL && writer->links[slot]->is_full)
            stream_resume(writer, writer->links[slot]);
}

/* Sleeps on descriptors: the channel, the full sockets and, if prepared, the ring's eventfd. */
static enum step wait_poll(struct link_writer *writer, int timeout_ms) {
    struct loop *loop = &writer->loop;
    struct epoll_event events[EPOLL_EVENTS_MAX];
    enum step step = STEP_MORE;
    eventfd_t count;
    int n = epoll_pwait(loop->epoll_fd, events, EPOLL_EVENTS_MAX, timeout_ms, NULL);
    stats_call(loop->stats, CALL_epoll_wait);
    if (n < 0)
        pace_refused();
    for (int i = 0; i < n; i++) {
        uint32_t what = events[i].data.u32;
        if (what == POLL_CHANNEL)
            step = STEP_DOORBELL;
        else if (what == POLL_RING && eventfd_read(loop->ring->wake_fd, &count) < 0)
            pace_refused();
        else if (link_at(writer, what) != NULL)
            stream_resume(writer, writer->links[what]);
    }
    resume_all_at_times(writer);
    return step;
}

/* epoll_wait knows milliseconds only. */
enum step link_writer_poll(struct link_writer *writer, uint64_t timeout_ns) {
    struct pollfd any = {.fd = writer->loop.epoll_fd, .events = POLLIN};
    struct timespec timeout = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
    stats_call(writer->loop.stats, CALL_ppoll);
    if (ppoll(&any, 1, &timeout, NULL) > 0)
        return wait_poll(writer, 0);
    resume_all_at_times(writer);
    return STEP_MORE;
}

static enum step wait_for_record(struct link_writer *writer) {
    enum step step = loop_wait_record(&writer->loop);
    send_in_place_take_over(writer);
    return step;
}

static enum step wait_for_work(struct link_writer *writer) {
    struct loop *loop = &writer->loop;
    uint64_t cursor = ring_first(loop->ring);
    if (writer->n_full == 0)
        return wait_for_record(writer);
    bool has_one = writer->n_links == 1; /* the ring has nothing that could be written */
    if (!has_one && !ring_prepare_poll(loop->ring, cursor))
        return STEP_MORE;
    enum step step = writer->n_held > 0 ? link_writer_poll(writer, STREAM_PATH_LOOK_NS)
                                        : wait_poll(writer, FULL_LOOK_MS);
    if (!has_one)
        waiter_cancel(loop->self);
    stream_path_look_again(writer);
    return step;
}

/* -- life -------------------------------------------------------------------------------------- */

struct loop *link_writer_new(const struct loop *common) {
    struct link_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return NULL;
    writer->loop = *common;
    writer->queue_pool.max = LINK_POOL_BYTES;
    fair_init(&writer->fair);
    for (unsigned i = 0; i < N_SOCKETS; i++)
        writer->sockets[i].fd = -1;
    int wake_fd = common->ring->wake_fd;
    int error = wake_fd >= 0 ? loop_watch(common, wake_fd, EPOLLIN, POLL_RING) : 0;
    if (error == 0)
        return &writer->loop;
    link_writer_free(writer);
    errno = -error;
    return NULL;
}

void link_writer_free(struct link_writer *writer) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        link_writer_detach(writer, slot);
    free(writer);
}

static int prepare(struct link_writer *writer, struct writer_link *link) {
    if (link_queue_init(&link->queue, &writer->queue_pool) < 0)
        return -ENOMEM;
    fair_attach(writer, link);
    if (link->format.is_datagram)
        return 0;
    if ((link->overtaking = calloc(1, sizeof *link->overtaking)) == NULL)
        return -ENOMEM;
    /* Edge-triggered: each time a full socket has room again is reported once. */
    return loop_watch(&writer->loop, link->fd, EPOLLOUT | EPOLLET, link->slot);
}

int link_writer_attach(struct link_writer *writer, unsigned slot, uint32_t link_id, int fd,
                       const struct link_format *format) {
    struct writer_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->slot = slot;
    link->fd = fd;
    link->id = link_id;
    link->format = loop_bounded_format(&writer->loop, format);
    writer->links[slot] = link;
    writer->n_links++;
    /* What a predecessor or another link has set is of a queue that is gone. */
    peer_set(&writer->loop.peers->by_link_writer[slot].waiting_since_ns, 0);
    int error = prepare(writer, link);
    if (error < 0)
        link_writer_detach(writer, slot);
    else
        send_in_place_allow(writer, link, true);
    return error;
}

void link_writer_detach(struct link_writer *writer, unsigned slot) {
    struct writer_link *link = writer->links[slot];
    if (link == NULL)
        return;
    send_in_place_allow(writer, link, false);
    queued_forget(writer, link);
    fair_forget(writer, link);
    stream_forget(writer, link);
    writer->n_broken -= link->broken != 0;
    writer->n_too_long -= link->is_too_long;
    writer->loop.n_news -= link->trains.is_news + link->datagrams.is_news;
    if (link->fd >= 0)
        loop_unwatch(&writer->loop, link->fd);
    link_queue_free(&link->queue);
    free(link->overtaking);
    free(link);
    writer->links[slot] = NULL;
    writer->n_links--;
}

int link_writer_send_message(struct link_writer *writer, unsigned slot, const uint8_t *message,
                             size_t length) {
    struct writer_link *link = link_at(writer, slot);
    if (link == NULL)
        return -EINVAL;
    return link->format.is_datagram ? datagram_send_message(writer, link, message, length)
                                    : stream_send_message(writer, link, message, length);
}
