#define _GNU_SOURCE
#include "outbound/splitting.h"

#include <stdlib.h>

#include "outbound/datagram_train.h"
#include "outbound/in_pieces.h"
#include "outbound/path_fit.h"
#include "outbound/whole_pieces.h"
#include "packet/byteorder.h"
#include "packet/headers.h"

enum {
    SHORTENED_MIN = 256, /* bytes of TCP's payload; a path that takes less is a bad guess */
};

static enum stats_drop plan(struct tun_reader *reader, const struct tun_reader_link *link,
                            const struct frame *frame, const struct arrival *arrival);
static enum stats_drop plan_segments(struct tun_reader *reader, const struct tun_reader_link *link,
                                     struct vnet *vnet, const struct frame *frame);
static bool fill_record(struct tun_reader *reader, struct tun_reader_link *link,
                        struct ring_record *record);
static size_t write_segment(struct tun_reader *reader, struct tun_reader_link *link, uint8_t *at);

/* -- a frame comes ----------------------------------------------------------------------------- */

size_t splitting_begin(struct tun_reader *reader, const struct frame *frame,
                       const struct arrival *arrival) {
    struct splitting *splitting = reader->splitting;
    const struct tun_reader_link *link = reader->links[arrival->slot];
    enum stats_drop reason = plan(reader, link, frame, arrival);
    uint64_t n_packets = (uint64_t)splitting->n_packets;
    if (reason == DROP_tun_reader_exceeds_path_mtu) {
        path_refuse(reader, (unsigned)arrival->slot, frame, n_packets);
        return 0;
    }
    if (reason != N_DROPS) {
        frame_drop(reader, reason, n_packets, frame->length);
        return 0;
    }
    splitting->arrival = *arrival;
    splitting->link_id = link->id;
    stats_count(reader->loop.stats, n_packets, frame->length);
    frame_mark_sent(reader, arrival, true);
    splitting_continue(reader); /* what the ring has no room for follows later */
    return frame->length;
}

static size_t segment_type_length(const struct link_format *format) {
    return format->mode == MODE_TAP && format->wire != WIRE_SIMPLETUN ? MESSAGE_TYPE_LENGTH : 0;
}

/* A TCP segment on a TAP device that is too long for the path is cut shorter: TCP takes segments of
 * any length, and a piece or a fragment more costs as much as a packet. An identification says
 * nothing where fragments are forbidden, so that more of them may be counted (RFC 6864 4.1). */
static bool shorten(const struct tun_reader *reader, const struct tun_reader_link *link,
                    struct vnet *vnet) {
    const struct gso_split *split = &reader->splitting->split;
    const uint8_t *ip = split->frame + split->ip;
    size_t longest = gso_segment_length(split, 0), most = path_whole_max(link);
    bool has_ids =
        split->is_ipv4 && (be16_read(ip + IPV4_FRAGMENT_OFFSET) & IPV4_DONT_FRAGMENT) == 0;
    if (split->is_udp || has_ids || path_fit(reader, link, split->frame, longest) == FITS ||
        most < split->header_length + MESSAGE_TYPE_LENGTH + SHORTENED_MIN)
        return false;
    vnet->gso_size = (uint16_t)(most - MESSAGE_TYPE_LENGTH - split->header_length);
    return true;
}

/* N_DROPS: nothing speaks against it. */
static enum stats_drop plan(struct tun_reader *reader, const struct tun_reader_link *link,
                            const struct frame *frame, const struct arrival *arrival) {
    struct splitting *splitting = reader->splitting;
    const uint8_t *packet = frame_packet(frame);
    struct vnet vnet;
    splitting->n_packets = 1;
    splitting->n_segments = splitting->next = 0;
    if (message_check_own(reader->loop.mode, &vnet, frame->vnet, frame->length) < 0)
        return DROP_tun_reader_bad_virtio;
    splitting->n_packets = gso_split_begin(&splitting->split, &vnet, packet, frame->length);
    splitting->flow = frame->flow;
    splitting->ecn = ecn_of_frame(reader->loop.mode, packet, frame->length);
    bool is_too_long =
        path_fit(reader, link, packet, gso_segment_length(&splitting->split, 0)) != FITS;
    /* On a TAP device segments that are too long for the path are cut shorter, or go in halves. */
    int n_datagrams = is_too_long ? 2 * splitting->n_packets : splitting->n_packets;
    splitting->is_whole = (reader->loop.mode == MODE_TAP || !is_too_long) &&
                          whole_pieces_begin(reader, link, &vnet, arrival, n_datagrams);
    return splitting->is_whole ? N_DROPS : plan_segments(reader, link, &vnet, frame);
}

static enum stats_drop plan_segments(struct tun_reader *reader, const struct tun_reader_link *link,
                                     struct vnet *vnet, const struct frame *frame) {
    struct splitting *splitting = reader->splitting;
    const uint8_t *packet = frame_packet(frame);
    if (reader->loop.mode == MODE_TAP && shorten(reader, link, vnet))
        splitting->n_packets = gso_split_begin(&splitting->split, vnet, packet, frame->length);
    size_t longest = gso_segment_length(&splitting->split, 0);
    if (longest + segment_type_length(&link->format) > link->format.message_max)
        return DROP_tun_reader_exceeds_message_max;
    enum fit fit = path_fit(reader, link, packet, longest);
    if (fit == FITS_NOT)
        return DROP_tun_reader_exceeds_path_mtu;
    splitting->in_fragments = fit == FITS_IN_FRAGMENTS;
    splitting->in_pieces = fit == FITS_IN_PIECES;
    splitting->n_segments = splitting->n_packets;
    return N_DROPS;
}

/* -- record by record -------------------------------------------------------------------------- */

static void give_up(struct tun_reader *reader, enum stats_drop reason) {
    struct splitting *splitting = reader->splitting;
    int n = splitting->is_whole ? splitting->n_packets - splitting->n_counted
                                : splitting->n_segments - splitting->next;
    stats_dropped(reader->loop.stats, reason, (uint64_t)n);
    capture_drop(reader->loop.capture, reason);
    splitting->next = splitting->n_segments;
}

/* The frame was split for one link's path and format, so the rest of it does not go to the next
 * session. What is not sealed may go to the next link, as in the link-writer. */
static bool is_replaced(const struct tun_reader *reader, const struct tun_reader_link *link) {
    return link == NULL ||
           (reader->loop.wire == WIRE_WIREGUARD && link->id != reader->splitting->link_id);
}

bool splitting_continue(struct tun_reader *reader) {
    while (splitting_is_underway(reader->splitting)) {
        struct tun_reader_link *link = reader->links[reader->splitting->arrival.slot];
        if (is_replaced(reader, link)) {
            give_up(reader, DROP_tun_reader_link_ended);
            break;
        }
        if (reader->loop.wire == WIRE_WIREGUARD && link->sending == NULL) {
            give_up(reader, DROP_tun_reader_no_session);
            break;
        }
        struct ring_record *record = ring_reserve(reader->loop.ring, FRAME_SPACE);
        if (record == NULL)
            return false;
        if (reader->splitting->is_whole ? !whole_pieces_fill(reader, link, record)
                                        : !fill_record(reader, link, record))
            give_up(reader, DROP_tun_reader_no_session);
    }
    return true;
}

/* What is written in front of each segment. */
static size_t segment_lead(const struct tun_reader *reader, const struct link_format *format) {
    return segment_type_length(format) + (format->is_datagram ? 0 : STREAM_LENGTH_PREFIX) +
           (reader->loop.wire == WIRE_WIREGUARD ? DATA_HEADER : 0);
}

/* What becomes of a segment; of one in two pieces at most. */
static size_t segment_space(const struct tun_reader *reader, const struct tun_reader_link *link,
                            size_t length) {
    bool is_sealed = reader->loop.wire == WIRE_WIREGUARD;
    if (reader->splitting->in_pieces)
        return length + PIECES_SPACE;
    if (is_sealed && reader->loop.mode == MODE_TUN)
        length = session_padded(length, tun_reader_padding_max(link));
    return segment_lead(reader, &link->format) + length + (is_sealed ? DATA_TAG : 0);
}

static bool is_last_shorter(const struct splitting *splitting) {
    return gso_segment_length(&splitting->split, splitting->n_segments - 1) <
           gso_segment_length(&splitting->split, 0);
}

/* Of segments in two halves: so that both of each are in the record. */
static int halves_a_record(const struct splitting *splitting, size_t space, int left) {
    int most = (int)(TRAIN_BYTES_MAX / space);
    most = most < TRAIN_SEGMENTS_MAX / 2 ? most : TRAIN_SEGMENTS_MAX / 2;
    if (left > 1 && is_last_shorter(splitting))
        left--; /* its two halves would be shorter than the others, and only one may be */
    most = most < 1 ? 1 : most;
    return left < most ? left : most;
}

/* How many of the segments left go into one record. */
static int segments_a_record(const struct tun_reader *reader, const struct tun_reader_link *link) {
    const struct splitting *splitting = reader->splitting;
    int left = splitting->n_segments - splitting->next;
    if (splitting->in_fragments)
        return 1;
    size_t space = segment_space(reader, link, gso_segment_length(&splitting->split, 0));
    if (splitting->in_pieces)
        return halves_a_record(splitting, space, left);
    const struct ring_record like = {.slot = (unsigned)splitting->arrival.slot,
                                     .link_id = link->id,
                                     .ecn = splitting->ecn,
                                     .flow = splitting->flow,
                                     .length = (uint32_t)space};
    return train_fill_take(&reader->train_fill, &like, left);
}

static uint32_t record_segment(const struct splitting *splitting,
                               const struct tun_reader_link *link, size_t first) {
    if (splitting->in_fragments)
        return SEGMENT_FRAGMENTS;
    return link->format.is_datagram ? (uint32_t)first : SEGMENT_WHOLE;
}

static bool last_needs_pieces(const struct tun_reader *reader, const struct tun_reader_link *link) {
    const struct gso_split *split = &reader->splitting->split;
    size_t length = gso_segment_length(split, reader->splitting->n_segments - 1);
    return path_fit(reader, link, split->frame, length) == FITS_IN_PIECES;
}

/* false: a segment cannot be sealed. */
static bool fill_record(struct tun_reader *reader, struct tun_reader_link *link,
                        struct ring_record *record) {
    struct splitting *splitting = reader->splitting;
    struct message_outbound message = {.start = (uint8_t *)record + sizeof *record,
                                       .ecn = splitting->ecn,
                                       .flow = splitting->flow};
    if (splitting->in_pieces && splitting->next == splitting->n_segments - 1)
        splitting->in_pieces = last_needs_pieces(reader, link);
    int wanted = segments_a_record(reader, link);
    if (reader->loop.wire == WIRE_WIREGUARD) /* near the end of a key each draws its own */
        (void)session_draw(link->sending, (unsigned)(splitting->in_pieces ? 2 * wanted : wanted));
    size_t n_bytes = 0, first = 0, length = 1;
    for (; message.n_packets < wanted && length > 0; message.n_packets += length > 0) {
        size_t packet = gso_segment_length(&splitting->split, splitting->next);
        length = write_segment(reader, link, message.start + message.length);
        message.length += length;
        n_bytes += length > 0 ? packet : 0;
        first = first == 0 ? length / (splitting->in_pieces ? 2 : 1) : first;
    }
    if (message.n_packets > 0)
        frame_commit(reader, record, &splitting->arrival, &message, n_bytes,
                     record_segment(splitting, link, first));
    return length > 0;
}

/* Writes the next segment at `at` as a message; 0 when it cannot be sealed. Returns its length. */
static size_t write_segment(struct tun_reader *reader, struct tun_reader_link *link, uint8_t *at) {
    struct splitting *splitting = reader->splitting;
    unsigned slot = (unsigned)splitting->arrival.slot;
    size_t lead = splitting->in_pieces ? (size_t)PIECES_LEAD : segment_lead(reader, &link->format);
    size_t length = gso_segment_length(&splitting->split, splitting->next);
    struct message_outbound message;
    gso_write_segment(&splitting->split, splitting->next, at + lead);
    message_encapsulate_plain(&link->format, at + lead, length, &message);
    if (splitting->in_pieces ? !pieces_seal(reader, link, slot, at + lead, length, &message)
                             : !frame_seal(reader, link, slot, &message))
        return 0;
    splitting->next++;
    return message.length;
}

/* -- life -------------------------------------------------------------------------------------- */

struct splitting *splitting_new(void) {
    return calloc(1, sizeof(struct splitting));
}

void splitting_free(struct splitting *splitting) {
    free(splitting);
}
