/* A super-packet on its way into the ring, for a peer that takes plain packets. */
#define _GNU_SOURCE
#include "outbound/frame.h"

#include <stdlib.h>

#include "outbound/datagram_writer.h"

struct splitting *splitting_new(void) {
    return calloc(1, sizeof(struct splitting));
}

void splitting_free(struct splitting *splitting) {
    free(splitting);
}

static size_t segment_type_length(const struct link_format *format) {
    return format->mode == MODE_TAP && format->wire != WIRE_SIMPLETUN ? MESSAGE_TYPE_LENGTH : 0;
}

/* What stands in front of each segment. */
static size_t segment_lead(const struct loop *loop, const struct link_format *format) {
    return segment_type_length(format) + (format->is_datagram ? 0 : STREAM_LENGTH_PREFIX) +
           (loop->wire == WIRE_WIREGUARD ? DATA_HEADER : 0);
}

/* At most this much becomes of a segment. */
static size_t segment_space(const struct loop *loop, const struct link_format *format,
                            size_t length) {
    size_t sealed = loop->wire == WIRE_WIREGUARD ? DATA_PADDING - 1 + DATA_TAG : 0;
    return segment_lead(loop, format) + length + sealed;
}

static enum stats_drop begin_split(struct loop *loop, const struct loop_link *link,
                                   size_t frame_length, uint64_t *n_packets) {
    struct splitting *splitting = loop->splitting;
    const uint8_t *frame = splitting->frame + VNET_LENGTH;
    struct vnet vnet;
    if (message_check_own(loop->mode, &vnet, splitting->frame, frame_length) < 0)
        return DROP_tun_reader_bad_virtio;
    int n = gso_split_begin(&splitting->split, &vnet, frame, frame_length);
    *n_packets = (uint64_t)n;
    size_t longest = gso_segment_length(&splitting->split, 0);
    if (longest + segment_type_length(&link->format) > link->format.message_max)
        return DROP_tun_reader_exceeds_message_max;
    enum fit fit = outbound_fit(loop, link, frame, longest);
    if (fit == FITS_NOT)
        return DROP_tun_reader_exceeds_path_mtu;
    splitting->in_fragments = fit == FITS_IN_FRAGMENTS;
    splitting->n_segments = n;
    splitting->next = 0;
    return N_DROPS;
}

/* The frame stands in loop->splitting. */
size_t splitting_take(struct loop *loop, unsigned slot, size_t frame_length, uint64_t now_ns,
                      uint64_t boottime_ns) {
    struct splitting *splitting = loop->splitting;
    struct loop_link *link = loop->links[slot];
    uint64_t n_packets = 1;
    enum stats_drop reason = begin_split(loop, link, frame_length, &n_packets);
    if (reason == DROP_tun_reader_exceeds_path_mtu) {
        outbound_refuse(loop, slot, splitting->frame + VNET_LENGTH, frame_length, n_packets);
        return 0;
    }
    if (reason != N_DROPS) {
        outbound_drop(loop, reason, n_packets, frame_length);
        return 0;
    }
    splitting->slot = slot;
    splitting->link_id = link->id;
    splitting->now_ns = now_ns;
    stats_count(loop->stats, n_packets, frame_length);
    outbound_mark_sent(loop, slot, boottime_ns, true);
    outbound_split(loop); /* what the ring has no room for follows later */
    return frame_length;
}

/* Writes the next segment at `at` as a message; 0 when it cannot be sealed. Returns its length. */
static size_t write_segment(struct loop *loop, struct loop_link *link, uint8_t *at) {
    struct splitting *splitting = loop->splitting;
    uint8_t *segment = at + segment_lead(loop, &link->format);
    size_t length = gso_segment_length(&splitting->split, splitting->next);
    struct message_outbound message;
    gso_write_segment(&splitting->split, splitting->next, segment);
    message_lay_out_plain(&link->format, segment, length, &message);
    if (!outbound_finish(loop, link, splitting->slot, &message))
        return 0;
    splitting->next++;
    return message.length;
}

/* How many of the segments left go into one record. */
static int segments_a_record(const struct loop *loop, const struct loop_link *link) {
    const struct splitting *splitting = loop->splitting;
    int left = splitting->n_segments - splitting->next;
    if (splitting->in_fragments)
        return 1;
    size_t space = segment_space(loop, &link->format, gso_segment_length(&splitting->split, 0));
    int most = (int)(TRAIN_BYTES_MAX / space);
    most = most < TRAIN_SEGMENTS_MAX ? most : TRAIN_SEGMENTS_MAX;
    most = most < 1 ? 1 : most;
    return left < most ? left : most;
}

static uint32_t record_segment(const struct loop *loop, const struct loop_link *link,
                               size_t first) {
    if (loop->splitting->in_fragments)
        return SEGMENT_FRAGMENTS;
    return link->format.is_datagram ? (uint32_t)first : SEGMENT_WHOLE;
}

/* Fills one record. false: a segment cannot be sealed. */
static bool fill_record(struct loop *loop, struct loop_link *link, struct ring_record *record) {
    struct splitting *splitting = loop->splitting;
    struct message_outbound message = {.start = (uint8_t *)record + sizeof *record};
    int wanted = segments_a_record(loop, link);
    size_t n_bytes = 0, first = 0, length = 1;
    for (; message.n_packets < wanted && length > 0; message.n_packets += length > 0) {
        size_t packet = gso_segment_length(&splitting->split, splitting->next);
        length = write_segment(loop, link, message.start + message.length);
        message.length += length;
        n_bytes += length > 0 ? packet : 0;
        first = first == 0 ? length : first;
    }
    if (message.n_packets > 0)
        outbound_commit(loop, record, splitting->slot, &message, n_bytes,
                        record_segment(loop, link, first), splitting->now_ns);
    return length > 0;
}

static void give_up_split(struct loop *loop, enum stats_drop reason) {
    struct splitting *splitting = loop->splitting;
    stats_dropped(loop->stats, reason, (uint64_t)(splitting->n_segments - splitting->next));
    splitting->next = splitting->n_segments;
}

/* The frame was split for one link's path and format, so the rest of it does not go to the next
 * session. What is not sealed may go to the next link, as in the link-writer. */
static bool is_replaced(const struct loop *loop, const struct loop_link *link) {
    return link == NULL || (loop->wire == WIRE_WIREGUARD && link->id != loop->splitting->link_id);
}

bool outbound_split(struct loop *loop) {
    while (outbound_is_splitting(loop)) {
        struct loop_link *link = loop->links[loop->splitting->slot];
        if (is_replaced(loop, link)) {
            give_up_split(loop, DROP_tun_reader_link_ended);
            break;
        }
        if (loop->wire == WIRE_WIREGUARD && link->sending == NULL) {
            give_up_split(loop, DROP_tun_reader_no_session);
            break;
        }
        struct ring_record *record = ring_reserve(loop->ring, OUTBOUND_SPACE);
        if (record == NULL)
            return false;
        if (!fill_record(loop, link, record))
            give_up_split(loop, DROP_tun_reader_no_session);
    }
    return true;
}
