/* link-writer: the last stage of the outbound direction.
 *
 *   1. wait for a record in the ring, or for a full socket to have room again
 *   2. take a batch from the ring and write it: what goes by UDP with as few calls as it takes
 *      (datagram_writer.c), what goes by streams link by link, one writev each; the records there
 *      are messages with their length prefix already
 *   3. count what is out whole. The rest of a message that is half out goes to the link's own
 * queue. What else a full socket did not take: the only link: it stays in the ring, which then
 * pushes back on the tun-reader one of many: it goes to the link's queue, so that the ring goes on
 * for the others; what that cannot hold is dropped on the peer's name
 *   4. release
 *
 * On the unsealed wires a packet waits NO_LINK_WAIT_MS for a link, so that a reconnect in that time
 * loses nothing; what was sealed for a link that is gone is of no use to the next one. This worker
 * alone consumes the outbound ring and alone writes the sockets.
 */
#define _GNU_SOURCE
#include "outbound/link_writer.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include "outbound/datagram_writer.h"
#include "loop/reconcile.h"

enum {
    BATCH_RECORDS_MAX = 256,
    BATCH_BYTES_MAX = 1024 * 1024,
    EPOLL_EVENTS_MAX = 64,
    /* WireGuard holds 128 packets a peer while it has no session; we hold by age, since a frame
     * here may be 64 KiB. One second covers the restart of any worker and the re-dial. */
    NO_LINK_WAIT_MS = 1000,
    NO_LINK_LOOK_MS = 100,
};

/* What one pass looks at. */
struct batch {
    const struct ring_view *records[BATCH_RECORDS_MAX];
    uint64_t ends[BATCH_RECORDS_MAX]; /* the ring's cursor behind each */
    bool is_done[BATCH_RECORDS_MAX];
    int n;
};

static struct loop_link *link_at(struct loop *loop, unsigned slot) {
    struct loop_link *link = slot < N_PEER_SLOTS ? loop->links[slot] : NULL;
    return link != NULL && !link->is_over && link->broken == 0 ? link : NULL;
}

struct loop_link *link_writer_link(struct loop *loop, const struct ring_view *record) {
    struct loop_link *link = link_at(loop, record->slot);
    /* What was sealed for a link that is gone cannot be opened at the end of the next one. */
    if (link != NULL && loop->wire == WIRE_WIREGUARD && link->id != record->link_id)
        return NULL;
    return link;
}

bool link_writer_is_datagram(struct loop *loop, const struct ring_view *record) {
    const struct loop_link *link = link_writer_link(loop, record);
    return link != NULL && link->format.is_datagram;
}

static void set_full(struct loop *loop, struct loop_link *link, bool is_full) {
    loop->n_full += (unsigned)is_full - (unsigned)link->is_full;
    link->is_full = is_full;
}

static void set_broken(struct loop *loop, struct loop_link *link, int error) {
    set_full(loop, link, false);
    loop->n_broken += link->broken == 0;
    link->broken = error;
}

/* -- counting ---------------------------------------------------------------------------------- */

void link_writer_sent(struct loop *loop, unsigned slot, uint32_t n_packets, uint32_t n_bytes,
                      uint64_t delay_ns) {
    if (n_packets == 0)
        return; /* a keepalive or a handshake message: nobody's packet */
    n_packets = reconcile_uncounted(loop, n_packets);
    stats_queue_delay(loop->stats, delay_ns);
    stats_count(loop->stats, n_packets, n_bytes);
    stats_add(&loop->peers->slots[slot].transmit_packets, n_packets);
    stats_add(&loop->peers->slots[slot].transmit_bytes, n_bytes);
}

void link_writer_dropped(struct loop *loop, unsigned slot, enum stats_drop reason,
                         uint32_t n_packets) {
    n_packets = reconcile_uncounted(loop, n_packets);
    stats_dropped(loop->stats, reason, n_packets);
    if (slot < N_PEER_SLOTS)
        stats_add(&loop->peers->slots[slot].dropped_packets, n_packets);
}

void link_writer_too_long(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    loop->n_too_long += !link->is_too_long;
    link->is_too_long = true;
}

/* -- a link's own queue ------------------------------------------------------------------------ */

/* Lets the tun-reader see how long the oldest of the link's frames has waited; those in the link's
 * own queue came before those in the ring, of which `rest` is the first or NULL. */
static void mark_waiting(struct loop *loop, unsigned slot, const struct ring_view *rest) {
    struct link_queue *queue = &loop->links[slot]->queue;
    struct queue_entry first = {.enqueued_ns = rest != NULL ? rest->enqueued_ns : 0};
    if (!link_queue_is_empty(queue))
        link_queue_first(queue, &first);
    peer_set(&loop->peers->slots[slot].waiting_since_ns, first.enqueued_ns);
}

/* Empties the queue that uses most of the pool: its peer reads least of what it is sent. false:
 * none uses more than the one at `slot`. */
static bool cut_longest(struct loop *loop, unsigned slot) {
    size_t most = link_queue_pooled(&loop->links[slot]->queue);
    unsigned longest = slot;
    for (unsigned i = 0; i < N_PEER_SLOTS; i++) {
        size_t n_pooled = loop->links[i] == NULL ? 0 : link_queue_pooled(&loop->links[i]->queue);
        longest = n_pooled > most ? i : longest;
        most = n_pooled > most ? n_pooled : most;
    }
    if (longest == slot)
        return false;
    uint64_t n_packets = link_queue_cut(&loop->links[longest]->queue);
    link_writer_dropped(loop, longest, DROP_link_writer_link_full, (uint32_t)n_packets);
    mark_waiting(loop, longest, NULL);
    return true;
}

/* false: there is no room, and the queue already has its equal part of the pool. */
static bool append(struct loop *loop, unsigned slot, const struct queue_entry *entry,
                   const uint8_t *bytes) {
    struct link_queue *queue = &loop->links[slot]->queue;
    if (link_queue_append(queue, entry, bytes))
        return true;
    return link_queue_is_owed(queue, entry->length) && cut_longest(loop, slot) &&
           link_queue_append(queue, entry, bytes);
}

static void enqueue(struct loop *loop, const struct ring_view *record, size_t n_sent) {
    struct queue_entry entry = {
        .length = record->length - (uint32_t)n_sent,
        .n_packets = record->n_packets,
        .n_bytes = record->n_bytes,
        .is_rest = n_sent > 0,
        .enqueued_ns = record->enqueued_ns,
    };
    if (!append(loop, record->slot, &entry, record->payload + n_sent))
        link_writer_dropped(loop, record->slot, DROP_link_writer_link_full, record->n_packets);
}

static void flush_queue(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    struct iovec iov[BATCH_RECORDS_MAX];
    struct queue_entry entry;
    uint64_t now_ns = 0;
    while (!link_queue_is_empty(&link->queue) && !link->is_full && link->broken == 0) {
        ssize_t n = writev(link->fd, iov, link_queue_gather(&link->queue, iov, BATCH_RECORDS_MAX));
        now_ns = clock_now_ns();
        stats_call(loop->stats, CALL_writev);
        if (n < 0 && errno == EAGAIN)
            set_full(loop, link, true);
        else if (n < 0 && errno != EINTR)
            set_broken(loop, link, errno);
        size_t n_written = n > 0 ? (size_t)n : 0;
        for (; link_queue_settle(&link->queue, n_written, &entry); n_written = 0)
            link_writer_sent(loop, slot, entry.n_packets, entry.n_bytes,
                             now_ns - entry.enqueued_ns);
    }
    link_queue_rest(&link->queue, now_ns);
    /* The only link's frames wait in the ring as well: the pass that takes them out tells, unless
     * the half that was just sent was the last. */
    if (loop->n_links > 1 || ring_used_bytes(loop->ring) == 0)
        mark_waiting(loop, slot, NULL);
}

int loop_send_message(struct loop *loop, unsigned slot, const uint8_t *message, size_t length) {
    struct loop_link *link = link_at(loop, slot);
    struct queue_entry entry = {.length = STREAM_LENGTH_PREFIX + (uint32_t)length};
    uint8_t framed[STREAM_LENGTH_PREFIX + HANDSHAKE_BYTES_MAX];
    struct message_outbound outbound = {framed + STREAM_LENGTH_PREFIX, length, 0, false};
    if (link != NULL && link->format.is_datagram)
        return datagram_write(loop, slot, message, length);
    if (link == NULL || length > HANDSHAKE_BYTES_MAX)
        return -EINVAL;
    memcpy(outbound.start, message, length);
    message_prefix(&outbound);
    if (!append(loop, slot, &entry, outbound.start))
        return -ENOBUFS;
    flush_queue(loop, slot);
    return 0;
}

void link_writer_forget(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    struct queue_entry entry;
    while (link_queue_take(&link->queue, &entry))
        link_writer_dropped(loop, slot, DROP_link_writer_link_ended, entry.n_packets);
    mark_waiting(loop, slot, NULL);
    set_full(loop, link, false);
    loop->n_broken -= link->broken != 0;
    loop->n_too_long -= link->is_too_long;
    loop->n_news -= link->trains.is_news;
}

/* -- the batch --------------------------------------------------------------------------------- */

static bool collect(struct loop *loop, struct batch *batch) {
    uint64_t cursor = ring_first(loop->ring);
    size_t n_bytes = 0;
    bool corrupt = false;
    for (batch->n = 0; batch->n < BATCH_RECORDS_MAX && n_bytes < BATCH_BYTES_MAX; batch->n++) {
        const struct ring_view *record = ring_peek(loop->ring, &cursor, &corrupt);
        if (record == NULL)
            break;
        batch->records[batch->n] = record;
        batch->ends[batch->n] = cursor;
        batch->is_done[batch->n] = false;
        n_bytes += record->length;
    }
    if (batch->n == 0 && corrupt) {
        stats_dropped(loop->stats, DROP_link_writer_ring_corrupt, 1);
        ring_discard(loop->ring, loop->stats);
    }
    return batch->n > 0;
}

/* The records of the first one's stream, as far as the batch has them. */
static int choose(struct loop *loop, const struct batch *batch, int first, int *chosen,
                  struct iovec *iov) {
    unsigned slot = batch->records[first]->slot;
    int n = 0;
    for (int i = first; i < batch->n; i++) {
        const struct ring_view *record = batch->records[i];
        if (record->slot != slot || link_writer_link(loop, record) == NULL)
            continue;
        iov[n] = (struct iovec){record->payload, record->length};
        chosen[n++] = i;
    }
    return n;
}

/* The socket took n_written bytes. Returns how many of the chosen records need nothing more. */
static int settle(struct loop *loop, struct batch *batch, const int *chosen, int n_chosen,
                  size_t n_written) {
    uint64_t now_ns = clock_now_ns();
    int n_done = 0;
    while (n_done < n_chosen && n_written >= batch->records[chosen[n_done]]->length) {
        const struct ring_view *record = batch->records[chosen[n_done]];
        n_written -= record->length;
        batch->is_done[chosen[n_done++]] = true;
        link_writer_sent(loop, record->slot, record->n_packets, record->n_bytes,
                         now_ns - record->enqueued_ns);
    }
    if (n_done > 0)
        stats_batch(loop->stats, (uint64_t)n_done);
    if (n_written > 0) {
        enqueue(loop, batch->records[chosen[n_done]], n_written); /* the queue was empty: it fits */
        batch->is_done[chosen[n_done++]] = true;
    }
    return n_done;
}

static int write_chosen(struct loop *loop, struct loop_link *link, struct batch *batch,
                        const int *chosen, struct iovec *iov, int n_chosen) {
    size_t n_wanted = 0;
    for (int i = 0; i < n_chosen; i++)
        n_wanted += iov[i].iov_len;
    ssize_t n;
    do {
        n = writev(link->fd, iov, n_chosen);
        stats_call(loop->stats, CALL_writev);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        set_broken(loop, link, errno);
    else if (n < 0 ? errno == EAGAIN : (size_t)n < n_wanted)
        set_full(loop, link, true); /* the kernel has noted it and will tell of room */
    return settle(loop, batch, chosen, n_chosen, n > 0 ? (size_t)n : 0);
}

/* Writes, queues or leaves all records of one link. */
static void pass_link(struct loop *loop, struct batch *batch, int first) {
    struct iovec iov[BATCH_RECORDS_MAX];
    int chosen[BATCH_RECORDS_MAX], n_done = 0;
    struct loop_link *link = loop->links[batch->records[first]->slot];
    int n_chosen = choose(loop, batch, first, chosen, iov);
    if (!link->is_full && link_queue_is_empty(&link->queue))
        n_done = write_chosen(loop, link, batch, chosen, iov, n_chosen);
    for (; loop->n_links > 1 && n_done < n_chosen; n_done++) {
        enqueue(loop, batch->records[chosen[n_done]], 0);
        batch->is_done[chosen[n_done]] = true;
    }
    mark_waiting(loop, batch->records[first]->slot,
                 n_done < n_chosen ? batch->records[chosen[n_done]] : NULL);
}

/* The first datagram that is left when the doorbell rings; all that follow are left as well. */
static int first_unsent_datagram(struct loop *loop, const struct batch *batch) {
    int i = 0;
    while (batch->is_done[i] || !link_writer_is_datagram(loop, batch->records[i]))
        i++;
    return i;
}

/* Looks at every record; returns how many, from the first on, can be released. */
static int pass_records(struct loop *loop, struct batch *batch, enum wait_end *end) {
    if (datagrams_write(loop, batch->records, batch->is_done, batch->n) == DATAGRAMS_STOPPED) {
        *end = WAIT_DOORBELL;
        /* A stream's record behind it must wait, too: released it cannot be, so it would be
         * written again. */
        batch->n = first_unsent_datagram(loop, batch);
    }
    for (int i = 0; i < batch->n; i++) {
        const struct ring_view *record = batch->records[i];
        const struct loop_link *link = link_writer_link(loop, record);
        if (batch->is_done[i])
            continue;
        if (link != NULL) {
            pass_link(loop, batch, i);
        } else if (loop->wire == WIRE_WIREGUARD || record->slot != 0) {
            link_writer_dropped(loop, record->slot, DROP_link_writer_no_link, record->n_packets);
            batch->is_done[i] = true;
        }
        if (!batch->is_done[i])
            return i; /* it stays in the ring, and so does all that is behind it */
    }
    return batch->n;
}

static enum wait_end pass_batch(struct loop *loop, struct batch *batch) {
    enum wait_end end = WAIT_READY;
    int n_done = pass_records(loop, batch, &end);
    if (n_done > 0)
        ring_release(loop->ring, batch->ends[n_done - 1], loop->stats);
    return end;
}

/* -- waiting ----------------------------------------------------------------------------------- */

static void drop_expired(struct loop *loop) {
    uint64_t cursor = ring_first(loop->ring), released = cursor;
    uint64_t now_ns = clock_now_ns();
    bool corrupt = false;
    const struct ring_view *record;
    while ((record = ring_peek(loop->ring, &cursor, &corrupt)) != NULL &&
           record->enqueued_ns + NO_LINK_WAIT_MS * 1000000ull < now_ns) {
        link_writer_dropped(loop, record->slot, DROP_link_writer_no_link, record->n_packets);
        released = cursor;
    }
    if (released != ring_first(loop->ring))
        ring_release(loop->ring, released, loop->stats);
}

static enum wait_end wait_without_link(struct loop *loop) {
    drop_expired(loop);
    if (ring_used_bytes(loop->ring) == 0)
        return ring_wait_record(loop->ring, ring_first(loop->ring), loop->channel_fd, loop->stats);
    return wait_fd(-1, 0, NO_LINK_LOOK_MS, loop->channel_fd, loop->stats);
}

/* Sleeps on descriptors: the channel, the full sockets and, if prepared, the ring's eventfd. */
static enum wait_end wait_poll(struct loop *loop) {
    struct epoll_event events[EPOLL_EVENTS_MAX];
    enum wait_end end = WAIT_READY;
    eventfd_t count;
    int n = epoll_wait(loop->epoll_fd, events, EPOLL_EVENTS_MAX, -1);
    stats_call(loop->stats, CALL_epoll_wait);
    for (int i = 0; i < n; i++) {
        uint32_t what = events[i].data.u32;
        if (what == POLL_CHANNEL)
            end = WAIT_DOORBELL;
        else if (what == POLL_RING)
            eventfd_read(loop->ring->wake_fd, &count);
        else if (link_at(loop, what) != NULL) {
            set_full(loop, loop->links[what], false);
            flush_queue(loop, what);
        }
    }
    return end;
}

static enum wait_end wait_for_work(struct loop *loop) {
    uint64_t cursor = ring_first(loop->ring);
    if (loop->n_full == 0)
        return ring_wait_record(loop->ring, cursor, loop->channel_fd, loop->stats);
    if (loop->n_links == 1)
        return wait_poll(loop); /* the ring has nothing that could be written */
    if (!ring_prepare_poll(loop->ring, cursor))
        return WAIT_READY;
    enum wait_end end = wait_poll(loop);
    waiter_cancel(loop->self);
    return end;
}

/* -- the loop ---------------------------------------------------------------------------------- */

static enum loop_end report_broken(struct loop *loop) {
    unsigned slot = 0;
    while (loop->links[slot] == NULL || loop->links[slot]->broken == 0)
        slot++;
    int error = loop->links[slot]->broken;
    loop->links[slot]->broken = 0;
    loop->n_broken--;
    return loop_report(loop, slot, EVENT_LINK_ERROR, error);
}

static enum loop_end report_too_long(struct loop *loop) {
    unsigned slot = 0;
    while (loop->links[slot] == NULL || !loop->links[slot]->is_too_long)
        slot++;
    loop->links[slot]->is_too_long = false;
    loop->n_too_long--;
    return loop_report(loop, slot, EVENT_TOO_LONG, 0);
}

static enum loop_end report_news(struct loop *loop) {
    unsigned slot = 0;
    while (loop->links[slot] == NULL || !loop->links[slot]->trains.is_news)
        slot++;
    return loop_report_news(loop, slot, &loop->links[slot]->trains, OFFLOAD_TRAINS);
}

static bool is_held(struct loop *loop) {
    return loop->wire != WIRE_WIREGUARD && link_at(loop, 0) == NULL;
}

/* The only link is full: what is in the ring has to wait. */
static bool is_stuck(struct loop *loop) {
    return loop->n_links == 1 && loop->n_full == 1;
}

enum loop_end link_writer_loop(struct loop *loop) {
    struct batch batch;
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        if (loop->n_broken > 0)
            return report_broken(loop);
        if (loop->n_too_long > 0)
            return report_too_long(loop);
        if (loop->n_news > 0)
            return report_news(loop);
        if (is_held(loop))
            end = wait_without_link(loop);
        else if (!is_stuck(loop) && collect(loop, &batch))
            end = pass_batch(loop, &batch);
        else
            end = wait_for_work(loop);
    }
    return LOOP_DOORBELL;
}
