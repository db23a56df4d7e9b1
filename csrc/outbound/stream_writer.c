#define _GNU_SOURCE
#include "outbound/stream_writer.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "outbound/captured_out.h"

/* The batch's records for one link: their places in it, and their bytes. */
struct chosen {
    int places[BATCH_RECORDS_MAX];
    struct iovec iov[BATCH_RECORDS_MAX];
    int n;
};

static void choose(const struct batch *batch, int first, struct chosen *chosen);
static int write_chosen(struct link_writer *writer, struct writer_link *link, struct batch *batch,
                        struct chosen *chosen);
static int account_written(struct link_writer *writer, struct batch *batch,
                           const struct chosen *chosen, size_t n_written);
static void enqueue(struct link_writer *writer, struct writer_link *link,
                    const struct ring_view *record, size_t n_sent);
static void mark_waiting(struct link_writer *writer, struct writer_link *link,
                         const struct ring_view *rest);

static void set_full(struct link_writer *writer, struct writer_link *link, bool is_full) {
    writer->n_full += (unsigned)is_full - (unsigned)link->is_full;
    link->is_full = is_full;
}

static void set_broken(struct link_writer *writer, struct writer_link *link, int error) {
    set_full(writer, link, false);
    writer->n_broken += link->broken == 0;
    link->broken = error;
}

/* -- the records of one link ------------------------------------------------------------------- */

void stream_write(struct link_writer *writer, struct batch *batch, int first) {
    struct writer_link *link = batch->links[first];
    struct chosen chosen;
    int n_done = 0;
    choose(batch, first, &chosen);
    if (!link->is_full && link_queue_is_empty(&link->queue))
        n_done = write_chosen(writer, link, batch, &chosen);
    for (; writer->n_links > 1 && n_done < chosen.n; n_done++) {
        enqueue(writer, link, batch->records[chosen.places[n_done]], 0);
        batch->is_done[chosen.places[n_done]] = true;
    }
    mark_waiting(writer, link, n_done < chosen.n ? batch->records[chosen.places[n_done]] : NULL);
}

static void choose(const struct batch *batch, int first, struct chosen *chosen) {
    const struct writer_link *link = batch->links[first];
    chosen->n = 0;
    for (int i = first; i < batch->n; i++) {
        const struct ring_view *record = batch->records[i];
        if (batch->links[i] != link)
            continue;
        chosen->iov[chosen->n] = (struct iovec){record->payload, record->length};
        chosen->places[chosen->n++] = i;
    }
}

/* Returns how many of the chosen records need nothing more. */
static int write_chosen(struct link_writer *writer, struct writer_link *link, struct batch *batch,
                        struct chosen *chosen) {
    size_t n_wanted = 0;
    for (int i = 0; i < chosen->n; i++)
        n_wanted += chosen->iov[i].iov_len;
    ssize_t n;
    do {
        n = writev(link->fd, chosen->iov, chosen->n);
        stats_call(writer->loop.stats, CALL_writev);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        set_broken(writer, link, errno);
    else if (n < 0 ? errno == EAGAIN : (size_t)n < n_wanted)
        set_full(writer, link, true); /* the kernel has noted it and will report room */
    return account_written(writer, batch, chosen, n > 0 ? (size_t)n : 0);
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
        enqueue(writer, batch->links[places[n_done]], batch->records[places[n_done]], n_written);
        batch->is_done[places[n_done++]] = true;
    }
    return n_done;
}

/* Lets the tun-reader see how long the oldest of the link's frames has waited; those in the link's
 * own queue came before those in the ring, of which `rest` is the first or NULL. */
static void mark_waiting(struct link_writer *writer, struct writer_link *link,
                         const struct ring_view *rest) {
    struct link_queue *queue = &link->queue;
    struct queue_entry first = {.enqueued_ns = rest != NULL ? rest->enqueued_ns : 0};
    if (!link_queue_is_empty(queue))
        link_queue_first(queue, &first);
    peer_set(&writer->loop.peers->slots[link->slot].waiting_since_ns, first.enqueued_ns);
}

/* -- the link's own queue ---------------------------------------------------------------------- */

/* Empties the queue that uses most of the pool: its peer reads least of what it is sent. false:
 * none uses more than that of `link`. */
static bool cut_longest(struct link_writer *writer, struct writer_link *link) {
    size_t most = link_queue_pooled(&link->queue);
    struct writer_link *longest = link;
    for (unsigned i = 0; i < N_PEER_SLOTS; i++) {
        size_t n_pooled =
            writer->links[i] == NULL ? 0 : link_queue_pooled(&writer->links[i]->queue);
        longest = n_pooled > most ? writer->links[i] : longest;
        most = n_pooled > most ? n_pooled : most;
    }
    if (longest == link)
        return false;
    uint64_t n_packets = link_queue_cut(&longest->queue);
    link_writer_dropped(writer, longest->slot, DROP_link_writer_link_full, (uint32_t)n_packets);
    mark_waiting(writer, longest, NULL);
    return true;
}

/* false: there is no room, and the queue already has its equal part of the pool. */
static bool append(struct link_writer *writer, struct writer_link *link,
                   const struct queue_entry *entry, const uint8_t *bytes) {
    struct link_queue *queue = &link->queue;
    if (link_queue_append(queue, entry, bytes))
        return true;
    return link_queue_is_owed(queue, entry->length) && cut_longest(writer, link) &&
           link_queue_append(queue, entry, bytes);
}

static void enqueue(struct link_writer *writer, struct writer_link *link,
                    const struct ring_view *record, size_t n_sent) {
    struct queue_entry entry = {
        .length = record->length - (uint32_t)n_sent,
        .n_packets = record->n_packets,
        .n_bytes = record->n_bytes,
        .is_rest = n_sent > 0,
        .enqueued_ns = record->enqueued_ns,
    };
    if (append(writer, link, &entry, record->payload + n_sent))
        captured_record(writer, record, N_DROPS);
    else
        captured_drop(writer, record, DROP_link_writer_link_full);
}

static void flush_queue(struct link_writer *writer, struct writer_link *link) {
    struct loop *loop = &writer->loop;
    struct iovec iov[BATCH_RECORDS_MAX];
    struct queue_entry entry;
    uint64_t now_ns = 0;
    while (!link_queue_is_empty(&link->queue) && !link->is_full && link->broken == 0) {
        ssize_t n = writev(link->fd, iov, link_queue_gather(&link->queue, iov, BATCH_RECORDS_MAX));
        now_ns = clock_now_ns();
        stats_call(loop->stats, CALL_writev);
        if (n < 0 && errno == EAGAIN)
            set_full(writer, link, true);
        else if (n < 0 && errno != EINTR)
            set_broken(writer, link, errno);
        size_t n_written = n > 0 ? (size_t)n : 0;
        for (; link_queue_consume(&link->queue, n_written, &entry); n_written = 0)
            link_writer_sent(writer, link->slot, entry.n_packets, entry.n_bytes,
                             now_ns - entry.enqueued_ns);
    }
    link_queue_rest(&link->queue, now_ns);
    /* The only link's frames wait in the ring as well: the batch that they are in marks it, unless
     * the half that was just sent was the last. */
    if (writer->n_links > 1 || ring_used_bytes(loop->ring) == 0)
        mark_waiting(writer, link, NULL);
}

void stream_resume(struct link_writer *writer, struct writer_link *link) {
    set_full(writer, link, false);
    flush_queue(writer, link);
}

void stream_forget(struct link_writer *writer, struct writer_link *link) {
    struct queue_entry entry;
    while (link_queue_pop(&link->queue, &entry))
        link_writer_dropped(writer, link->slot, DROP_link_writer_link_ended, entry.n_packets);
    mark_waiting(writer, link, NULL);
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
    if (!append(writer, link, &entry, outbound.start))
        return -ENOBUFS;
    captured_message(writer, link->slot, outbound.start, entry.length);
    flush_queue(writer, link);
    return 0;
}
