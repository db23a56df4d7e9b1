#define _GNU_SOURCE
#include "outbound/stream_writer.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "outbound/captured_out.h"
#include "outbound/fair_writer.h"
#include "outbound/queued.h"
#include "outbound/send_in_place.h"
#include "outbound/stream_path.h"

/* The batch's records for one link: their places in it, and their bytes. */
struct chosen {
    int places[BATCH_RECORDS_MAX];
    struct iovec iov[BATCH_RECORDS_MAX];
    int n;
    int n_overtaking; /* of them, which are the first */
};

static void write_records(struct link_writer *writer, struct batch *batch, int first);
static void choose(const struct batch *batch, int first, uint64_t seen_end, struct chosen *chosen);
static int write_chosen(struct link_writer *writer, struct writer_link *link, struct batch *batch,
                        struct chosen *chosen);
static int account_written(struct link_writer *writer, struct batch *batch,
                           const struct chosen *chosen, size_t n_written);

static void set_full(struct link_writer *writer, struct writer_link *link, bool is_full) {
    writer->n_full += (unsigned)is_full - (unsigned)link->is_full;
    link->is_full = is_full;
    stream_path_hold(writer, link, false);
}

static void set_broken(struct link_writer *writer, struct writer_link *link, int error) {
    set_full(writer, link, false);
    writer->n_broken += link->broken == 0;
    link->broken = error;
}

/* Of the buffers' bytes at most `n_max`, and as many as the path has room for; returns how many the
 * socket took. */
static size_t write_some(struct link_writer *writer, struct writer_link *link, struct iovec *iov,
                         int n_iov, size_t n_max, size_t room) {
    size_t n_most = room < n_max ? room : n_max, n_wanted = 0;
    for (int i = 0; i < n_iov; i++) {
        if (iov[i].iov_len > n_most - n_wanted) {
            iov[i].iov_len = n_most - n_wanted;
            n_iov = i + 1;
        }
        n_wanted += iov[i].iov_len;
    }
    ssize_t n = 0;
    do {
        if (n_wanted == 0)
            break;
        n = writev(link->fd, iov, n_iov);
        stats_call(writer->loop.stats, CALL_writev);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        set_broken(writer, link, errno);
    } else if (n < 0 || (size_t)n < n_wanted) {
        set_full(writer, link, true); /* the kernel has noted it and will report room */
        stream_path_watch(writer, link);
    } else if (n_wanted == room) {
        set_full(writer, link, true); /* no event will: it is looked at again */
        stream_path_hold(writer, link, true);
    }
    overtaking_wrote(link->overtaking, n > 0 ? (size_t)n : 0);
    return n > 0 ? (size_t)n : 0;
}

/* -- what a holder of the token has begun ------------------------------------------------------ */

void stream_end(struct link_writer *writer, struct writer_link *link, int error) {
    send_in_place_allow(writer, link, false);
    set_broken(writer, link, error);
}

void stream_take_rest(struct link_writer *writer, size_t n_sent) {
    struct batch batch;
    if (!link_writer_gather(writer, &batch) || batch.links[0] == NULL ||
        n_sent >= batch.records[0]->length)
        return;
    set_full(writer, batch.links[0], true); /* the kernel has noted it and will report room */
    queued_add(writer, batch.links[0], batch.records[0], n_sent);
    ring_release(writer->loop.ring, batch.ends[0], writer->loop.stats);
}

/* -- the batch --------------------------------------------------------------------------------- */

/* Keeps in mind what of the batch is done but, behind the first `n_released`, not released. */
static void note_early(struct link_writer *writer, const struct batch *batch, int n_released) {
    writer->early.n = 0;
    if (batch->n > 0)
        writer->early.seen_end = batch->ends[batch->n - 1];
    for (int i = n_released; i < batch->n; i++)
        if (batch->is_done[i])
            writer->early.ends[writer->early.n++] = batch->ends[i];
}

int streams_write(struct link_writer *writer, struct batch *batch) {
    int n_released = 0;
    for (; n_released < batch->n; n_released++) {
        int i = n_released;
        const struct ring_view *record = batch->records[i];
        const struct writer_link *link = batch->links[i];
        if (batch->is_done[i])
            continue;
        if (link != NULL && link->format.is_datagram)
            break; /* the bell rang before it was sent */
        if (link != NULL) {
            write_records(writer, batch, i);
        } else if (writer->loop.wire == WIRE_WIREGUARD || record->slot != 0) {
            captured_drop(writer, record, DROP_link_writer_no_link);
            batch->is_done[i] = true;
        }
        if (!batch->is_done[i])
            break; /* it stays in the ring, and so does all that is behind it */
    }
    note_early(writer, batch, n_released);
    return n_released;
}

/* -- the records of one link ------------------------------------------------------------------- */

/* Of those behind the first `n_done`; what has overtaken others only if there is nothing else. */
static const struct ring_view *oldest(const struct batch *batch, const struct chosen *chosen,
                                      int n_done) {
    bool has_others = chosen->n > chosen->n_overtaking;
    int i = has_others && n_done < chosen->n_overtaking ? chosen->n_overtaking : n_done;
    return i < chosen->n ? batch->records[chosen->places[i]] : NULL;
}

/* Writes, queues or leaves all of the batch's records for the link of its record `first`; marks
 * those as done that need nothing more. */
static void write_records(struct link_writer *writer, struct batch *batch, int first) {
    struct writer_link *link = batch->links[first];
    struct chosen chosen;
    int n_done = 0;
    choose(batch, first, writer->early.seen_end, &chosen);
    if (!link->is_full && link_queue_is_empty(&link->queue))
        n_done = write_chosen(writer, link, batch, &chosen);
    for (; writer->n_links > 1 && n_done < chosen.n; n_done++) {
        queued_add(writer, link, batch->records[chosen.places[n_done]], 0);
        batch->is_done[chosen.places[n_done]] = true;
    }
    queued_mark(writer, link, oldest(batch, &chosen, n_done));
}

static void add(struct chosen *chosen, const struct batch *batch, int place) {
    const struct ring_view *record = batch->records[place];
    if (batch->is_done[place])
        return;
    chosen->iov[chosen->n] = (struct iovec){record->payload, record->length};
    chosen->places[chosen->n++] = place;
}

/* Those that overtake, which are put first. */
static void choose_overtaking(const struct batch *batch, int first, struct chosen *chosen,
                              uint64_t seen_end, bool *overtakes) {
    const struct writer_link *link = batch->links[first];
    struct overtaken overtaken = {0};
    for (int i = first; i < batch->n; i++) {
        const struct ring_view *record = batch->records[i];
        overtakes[i] = batch->links[i] == link && !batch->is_done[i] &&
                       overtaking_next(link->overtaking, &overtaken, record->flow, record->length,
                                       batch->ends[i] > seen_end);
        if (overtakes[i])
            add(chosen, batch, i);
    }
    chosen->n_overtaking = chosen->n;
}

static void choose(const struct batch *batch, int first, uint64_t seen_end, struct chosen *chosen) {
    const struct writer_link *link = batch->links[first];
    bool overtakes[BATCH_RECORDS_MAX], any = batch->has_flows && !link->is_full;
    chosen->n = chosen->n_overtaking = 0;
    if (any)
        choose_overtaking(batch, first, chosen, seen_end, overtakes);
    for (int i = first; i < batch->n; i++)
        if (batch->links[i] == link && !(any && overtakes[i]))
            add(chosen, batch, i);
}

/* Returns how many of the chosen records need nothing more. */
static int write_chosen(struct link_writer *writer, struct writer_link *link, struct batch *batch,
                        struct chosen *chosen) {
    size_t room = stream_path_room(writer, link);
    size_t n = write_some(writer, link, chosen->iov, chosen->n, SIZE_MAX, room);
    return account_written(writer, batch, chosen, n);
}

/* The socket took n_written bytes. */
static int account_written(struct link_writer *writer, struct batch *batch,
                           const struct chosen *chosen, size_t n_written) {
    const int *places = chosen->places;
    uint64_t now_ns = clock_now_ns();
    int n_done = 0;
    while (n_done < chosen->n && n_written >= batch->records[places[n_done]]->length) {
        const struct ring_view *record = batch->records[places[n_done]];
        n_written -= record->length;
        batch->is_done[places[n_done++]] = true;
        captured_record(writer, record, N_DROPS);
        link_writer_sent(writer, record->slot, record->n_packets, record->n_bytes,
                         now_ns - record->enqueued_ns);
    }
    if (n_done > 0)
        stats_batch(writer->loop.stats, (uint64_t)n_done);
    if (n_written > 0) { /* the queue was empty: it fits */
        queued_add(writer, batch->links[places[n_done]], batch->records[places[n_done]], n_written);
        batch->is_done[places[n_done++]] = true;
    }
    return n_done;
}

/* -- the link's own queue ---------------------------------------------------------------------- */

size_t stream_write_queued(struct link_writer *writer, struct writer_link *link, size_t n_max) {
    struct link_queue *queue = &link->queue;
    struct iovec iov[BATCH_RECORDS_MAX];
    struct queue_entry entry;
    int n_iov = link_queue_gather(queue, iov, BATCH_RECORDS_MAX);
    size_t room = stream_path_room(writer, link);
    size_t n_written = write_some(writer, link, iov, n_iov, n_max, room);
    uint64_t now_ns = clock_now_ns();
    for (size_t left = n_written; link_queue_consume(queue, left, &entry); left = 0) {
        if (entry.waits > 0)
            overtaking_waits(link->overtaking, entry.waits - 1, false);
        link_writer_sent(writer, link->slot, entry.n_packets, entry.n_bytes,
                         now_ns - entry.enqueued_ns);
    }
    link_queue_rest(queue, now_ns);
    return n_written;
}

static void flush_queue(struct link_writer *writer, struct writer_link *link) {
    if (writer->fair.is_on) {
        fair_wake(writer, link);
        return;
    }
    while (!link_queue_is_empty(&link->queue) && !link->is_full && link->broken == 0)
        stream_write_queued(writer, link, SIZE_MAX);
    /* The only link's frames wait in the ring as well: the batch that they are in marks it, unless
     * the half that was just sent was the last. */
    if (writer->n_links > 1 || ring_used_bytes(writer->loop.ring) == 0)
        queued_mark(writer, link, NULL);
}

void stream_resume(struct link_writer *writer, struct writer_link *link) {
    set_full(writer, link, false);
    flush_queue(writer, link);
}

void stream_forget(struct link_writer *writer, struct writer_link *link) {
    set_full(writer, link, false);
}

/* -- the gateway's messages -------------------------------------------------------------------- */

int stream_send_message(struct link_writer *writer, struct writer_link *link,
                        const uint8_t *message, size_t length) {
    struct queue_entry entry = {.length = STREAM_LENGTH_PREFIX + (uint32_t)length};
    uint8_t framed[STREAM_LENGTH_PREFIX + HANDSHAKE_BYTES_MAX];
    struct message_outbound outbound = {.start = framed + STREAM_LENGTH_PREFIX, .length = length};
    if (length > HANDSHAKE_BYTES_MAX)
        return -EINVAL;
    memcpy(outbound.start, message, length);
    message_prefix(&outbound);
    if (!queued_append(writer, link, &entry, outbound.start))
        return -ENOBUFS;
    captured_message(writer, link->slot, outbound.start, entry.length);
    flush_queue(writer, link);
    return 0;
}
