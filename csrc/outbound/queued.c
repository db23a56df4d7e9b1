#include "outbound/queued.h"

#include "outbound/captured_out.h"

void queued_mark(struct link_writer *writer, struct writer_link *link,
                 const struct ring_view *rest) {
    struct link_queue *queue = &link->queue;
    struct queue_entry first = {.enqueued_ns = rest != NULL ? rest->enqueued_ns : 0};
    if (!link_queue_is_empty(queue))
        link_queue_first(queue, &first);
    bool was_inserted = link->overtaking != NULL && first.waits == 0 && !first.is_rest;
    if (!link_queue_is_empty(queue) && was_inserted)
        return; /* the oldest waits behind it, and is marked already */
    peer_set(&writer->loop.peers->by_link_writer[link->slot].waiting_since_ns, first.enqueued_ns);
}

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
    if (longest->overtaking != NULL)
        overtaking_none_waits(longest->overtaking);
    link_writer_dropped(writer, longest->slot, DROP_link_writer_link_full, (uint32_t)n_packets);
    queued_mark(writer, longest, NULL);
    return true;
}

bool queued_append(struct link_writer *writer, struct writer_link *link,
                   const struct queue_entry *entry, const uint8_t *bytes) {
    struct link_queue *queue = &link->queue;
    if (link_queue_append(queue, entry, bytes))
        return true;
    return link_queue_is_owed(queue, entry->length) && cut_longest(writer, link) &&
           link_queue_append(queue, entry, bytes);
}

/* true: it goes before those that wait for the stream. Else it is one of them from now on. */
static bool insert(struct writer_link *link, const struct ring_view *record,
                   struct queue_entry *entry) {
    if (link->overtaking == NULL || entry->is_rest)
        return false;
    if (overtaking_arrives(link->overtaking, record->flow, record->length) &&
        link_queue_insert(&link->queue, entry, record->payload))
        return true;
    entry->waits = 1 + record->flow;
    overtaking_waits(link->overtaking, record->flow, true);
    return false;
}

void queued_add(struct link_writer *writer, struct writer_link *link,
                const struct ring_view *record, size_t n_sent) {
    struct queue_entry entry = {
        .length = record->length - (uint32_t)n_sent,
        .n_packets = record->n_packets,
        .n_bytes = record->n_bytes,
        .is_rest = n_sent > 0,
        .segment = record->segment,
        .ecn = record->ecn,
        .enqueued_ns = record->enqueued_ns,
    };
    if (!insert(link, record, &entry) &&
        !queued_append(writer, link, &entry, record->payload + n_sent))
        captured_drop(writer, record, DROP_link_writer_link_full);
    else if (!link->format.is_datagram) /* datagrams are captured when they are sent */
        captured_record(writer, record, N_DROPS);
}

void queued_forget(struct link_writer *writer, struct writer_link *link) {
    struct queue_entry entry;
    while (link_queue_pop(&link->queue, &entry))
        link_writer_dropped(writer, link->slot, DROP_link_writer_link_ended, entry.n_packets);
    queued_mark(writer, link, NULL);
}
