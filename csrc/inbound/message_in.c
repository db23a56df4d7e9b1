#define _GNU_SOURCE
#include "inbound/message_in.h"

#include <string.h>

#include "host/udp_address.h"
#include "inbound/pieces_in.h"
#include "inbound/reach.h"
#include "inbound/shaped_in.h"
#include "inbound/switch_in.h"
#include "inbound/write_in_place.h"
#include "loop/token_bucket.h"
#include "packet/mss.h"

enum {
    /* Where a message's content begins in its record, so that the frame in it can get its
     * virtio_net_hdr in front: a bare packet has nothing there yet. */
    CONTENT_OFFSET = sizeof(struct ring_record) + VNET_LENGTH,
};

static enum step open_data(struct link_reader *reader, const struct arrival *arrival,
                           struct ring_record *record, const uint8_t *message, size_t length);
static struct receiving_key *find_key(const struct link_reader *reader,
                                      const struct arrival *arrival, uint32_t index);
static enum stats_drop open_reason(int fault);
static void mark_received(struct link_reader *reader, const struct receiving_key *key,
                          const struct arrival *arrival, bool is_data);
static enum step forward_opened(struct link_reader *reader, const struct arrival *arrival,
                                struct receiving_key *key, struct opened *opened,
                                const uint8_t *message);
static enum stats_drop fault_reason(enum message_fault fault);
static bool is_own_source(const struct link_reader *reader, unsigned slot, const uint8_t *packet);
static bool combine_ecn(struct link_reader *reader, const struct message_inbound *inbound,
                        enum ecn outer);

static struct opened opened_in(struct ring_record *record) {
    uint8_t *front = (uint8_t *)record + CONTENT_OFFSET;
    return (struct opened){.record = record, .front = front, .content = front};
}

static size_t record_space(size_t message_length) {
    size_t used = CONTENT_OFFSET + message_length;
    return (used + RING_RECORD_ALIGN - 1) & ~(size_t)(RING_RECORD_ALIGN - 1);
}

size_t message_space_max(void) {
    return record_space(PIECE_ROOM);
}

/* A piece of a super-packet becomes all of it. */
static size_t space_for(const struct link_reader *reader, const struct arrival *arrival,
                        size_t length) {
    bool may_be_piece =
        reader->pieces != NULL && arrival->slot < 0 && length > DATA_MESSAGE_MIN + PIECE_HEADER;
    return may_be_piece ? message_space_max() : record_space(length);
}

enum step message_drop(struct link_reader *reader, enum stats_drop reason, size_t length) {
    stats_count(reader->loop.stats, 1, length);
    stats_dropped(reader->loop.stats, reason, 1);
    capture_drop(reader->loop.capture, reason);
    return STEP_MORE;
}

static enum step forward_message(struct link_reader *reader, const struct arrival *arrival,
                                 const uint8_t *message, size_t length) {
    bool is_sealed = reader->loop.wire == WIRE_WIREGUARD;
    if (is_sealed && session_is_handshake(message, length))
        return handshake_forward(reader, arrival, message, length);
    if (is_sealed && !session_is_data(message, length))
        return message_drop(reader, DROP_link_reader_bad_type, length);
    if (reader->switch_in != NULL && switch_in_must_wait(reader, arrival))
        return STEP_RING_FULL;
    struct ring_record *record =
        ring_reserve(reader->loop.ring, space_for(reader, arrival, length));
    if (record == NULL)
        return STEP_RING_FULL;
    if (is_sealed)
        return open_data(reader, arrival, record, message, length);
    struct opened copied = opened_in(record);
    copied.length = length;
    memcpy(copied.content, message, length);
    unsigned slot = (unsigned)arrival->slot;
    message_commit(reader, slot, &reader->links[slot]->format, &copied, arrival);
    return STEP_MORE;
}

enum step message_forward(struct link_reader *reader, const struct arrival *arrival,
                          const uint8_t *message, size_t length) {
    struct capture *capture = reader->loop.capture;
    if (capture == NULL)
        return forward_message(reader, arrival, message, length);
    struct captured what = {CAPTURE_SEALED, true, arrival->slot, arrival->endpoint};
    capture_frame(capture, &what, message, length);
    enum step step = forward_message(reader, arrival, message, length);
    if (step == STEP_RING_FULL)
        capture_abandon(capture);
    capture_end(capture);
    return step;
}

/* -- data messages ----------------------------------------------------------------------------- */

static enum step open_data(struct link_reader *reader, const struct arrival *arrival,
                           struct ring_record *record, const uint8_t *message, size_t length) {
    struct receiving_key *key = find_key(reader, arrival, session_receiver_index(message));
    if (key == NULL)
        return message_drop(reader, DROP_link_reader_unknown_index, length);
    struct opened opened = opened_in(record);
    uint8_t *beside = pieces_in_place(reader, key, arrival, message, length);
    if (beside != NULL)
        opened.content = beside;
    else
        pieces_in_leave(reader);
    int n = session_open(key, message, length, opened.content);
    if (n < 0) {
        pieces_in_refused(reader);
        return message_drop(reader, open_reason(n), length);
    }
    opened.length = (size_t)n;
    mark_received(reader, key, arrival, n > 0);
    capture_of_peer(reader->loop.capture, (int)key->slot);
    return forward_opened(reader, arrival, key, &opened, message);
}

static enum stats_drop open_reason(int fault) {
    switch (fault) {
    case OPEN_BAD_TYPE:
        return DROP_link_reader_bad_type;
    case OPEN_REPLAYED:
        return DROP_link_reader_replayed;
    default:
        return DROP_link_reader_bad_tag;
    }
}

/* The key that may open what arrived so: on a stream only the keys of its peer. */
static struct receiving_key *find_key(const struct link_reader *reader,
                                      const struct arrival *arrival, uint32_t index) {
    struct receiving_key *key = key_table_find(reader->keys, index);
    if (key == NULL || arrival->boottime_ns >= key->expires_ns)
        return NULL;
    return arrival->slot < 0 || key->slot == (unsigned)arrival->slot ? key : NULL;
}

/* A gateway that was left still sends what is on its way: that does not lead back to it. */
static void mark_received(struct link_reader *reader, const struct receiving_key *key,
                          const struct arrival *arrival, bool is_data) {
    unsigned slot = key->slot;
    struct peer_inbound *peer = &reader->loop.peers->by_link_reader[slot];
    peer_set(&peer->received_ns, arrival->boottime_ns);
    if (is_data)
        peer_set(&peer->received_data_ns, arrival->boottime_ns);
    if (arrival->endpoint != NULL && !key->is_outdated &&
        !udp_address_is_known(&reader->endpoints[slot], arrival->endpoint))
        link_reader_set_endpoint(reader, slot, arrival->endpoint);
}

/* -- what was opened --------------------------------------------------------------------------- */

static enum step report(struct link_reader *reader, const struct receiving_key *key,
                        enum event_kind kind) {
    reader->loop.event.index = key->index;
    return loop_report(&reader->loop, key->slot, link_reader_link_id(reader, key->slot), kind, 0);
}

/* An authentic peer may still flood, and a session more would be no new allowance. */
static bool may_reach_gateway(struct link_reader *reader, const struct arrival *arrival,
                              unsigned slot) {
    return token_take(&reader->controls_full_at_ns[slot], arrival->now_ns, CONTROLS_PER_SECOND,
                      CONTROLS_BURST);
}

/* What was opened lies in the ring, where the tun-writer could change it; what the gateway acts on
 * is the peer's word, so it is opened again, beside the ring. */
static enum step report_control(struct link_reader *reader, struct receiving_key *key,
                                const uint8_t *message, size_t length) {
    uint8_t *content = reader->loop.event.bytes;
    int opened = session_open_again(key, message, length, content);
    if (opened <= 0 || content[0] != MESSAGE_CONTROL)
        return message_drop(reader, DROP_link_reader_bad_type, length);
    reader->loop.event.length = (uint32_t)opened;
    return report(reader, key, EVENT_CONTROL);
}

/* A control message: on UDP a hello or a probe, and on either what a server pushes anew. (A stream's
 * hello was read by the gateway.) */
static enum step forward_opened(struct link_reader *reader, const struct arrival *arrival,
                                struct receiving_key *key, struct opened *opened,
                                const uint8_t *message) {
    bool is_first = !key->is_reported, is_piece = pieces_in_take(reader, key, opened, arrival);
    size_t length = is_piece ? 0 : opened->length;
    key->is_confirmed = key->is_reported = true;
    bool is_control =
        length > 0 && opened->content[0] == MESSAGE_CONTROL && length <= EVENT_BYTES_MAX;
    if (is_control && may_reach_gateway(reader, arrival, key->slot))
        return report_control(reader, key, message, DATA_MESSAGE_MIN + length);
    if (is_control)
        message_drop(reader, DROP_link_reader_control_flood, length);
    else if (length > 0)
        message_commit(reader, key->slot,
                       arrival->slot < 0 ? &reader->udp_formats[0]
                                         : &reader->links[key->slot]->format,
                       opened, arrival);
    return is_first ? report(reader, key, EVENT_CONFIRMED) : STEP_MORE;
}

/* -- a frame ----------------------------------------------------------------------------------- */

static void drop_frame(struct link_reader *reader, enum stats_drop reason,
                       const struct message_inbound *inbound) {
    stats_dropped(reader->loop.stats, reason, (uint64_t)inbound->n_packets);
    capture_drop(reader->loop.capture, reason);
}

void message_commit(struct link_reader *reader, unsigned slot, const struct link_format *format,
                    const struct opened *opened, const struct arrival *arrival) {
    struct loop *loop = &reader->loop;
    struct message_inbound inbound;
    enum message_fault fault =
        message_decapsulate(format, opened->content, opened->length, &inbound);
    if (fault != MESSAGE_OK) {
        message_drop(reader, fault_reason(fault), opened->length);
        return;
    }
    stats_count(loop->stats, (uint64_t)inbound.n_packets, inbound.length);
    struct captured what = {CAPTURE_OPENED, true, (int)slot, NULL};
    if (loop->capture != NULL)
        capture_frame(loop->capture, &what, inbound.frame, inbound.length);
    if (!is_own_source(reader, slot, inbound.frame)) {
        drop_frame(reader, DROP_link_reader_bad_source, &inbound);
        return;
    }
    if (reader->reaches[slot] != NULL &&
        !reach_has(reader->reaches[slot], inbound.frame, inbound.length)) {
        drop_frame(reader, DROP_link_reader_not_permitted, &inbound);
        stats_add(&loop->peers->by_link_reader[slot].not_permitted_packets,
                  (uint64_t)inbound.n_packets);
        return;
    }
    if (arrival->ecn != ECN_NOT_ECT && !combine_ecn(reader, &inbound, arrival->ecn))
        return;
    if (reader->shaping.shapers[slot] != NULL &&
        !shaped_in_take(reader, slot, &inbound, arrival->now_ns))
        return;
    message_deliver(reader, slot, opened->record, &inbound, arrival->now_ns);
}

void message_deliver(struct link_reader *reader, unsigned slot, struct ring_record *record,
                     struct message_inbound *inbound, uint64_t now_ns) {
    struct loop *loop = &reader->loop;
    stats_add(&loop->peers->by_link_reader[slot].receive_packets, (uint64_t)inbound->n_packets);
    stats_add(&loop->peers->by_link_reader[slot].receive_bytes, inbound->length);
    if (loop->macs != NULL && !switch_in_takes(reader, slot, inbound, now_ns))
        return;
    if (reader->mss_mtu != 0 && loop->mode == MODE_TUN && inbound->n_packets == 1)
        mss_clamp(inbound->frame, inbound->length, reader->mss_mtu, vnet_is_plain(&inbound->vnet));
    uint8_t *vnet = inbound->frame - VNET_LENGTH;
    vnet_write(&inbound->vnet, vnet);
    *record = (struct ring_record){
        .offset = (uint32_t)(vnet - (uint8_t *)record),
        .length = (uint32_t)(VNET_LENGTH + inbound->length),
        .n_packets = (uint32_t)inbound->n_packets,
        .n_bytes = (uint32_t)inbound->length,
        .slot = slot,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
}

static enum stats_drop fault_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_link_reader_not_ip;
    case MESSAGE_BAD_VIRTIO:
        return DROP_link_reader_bad_virtio;
    case MESSAGE_AMPLIFIES:
        return DROP_link_reader_amplifies;
    default:
        return DROP_link_reader_bad_type;
    }
}

static bool is_own_source(const struct link_reader *reader, unsigned slot, const uint8_t *packet) {
    if (reader->loop.wire != WIRE_WIREGUARD || reader->loop.mode == MODE_TAP)
        return true;
    return allowedips_lookup_ip(reader->allowed_ips, packet, true) == (int)slot;
}

/* false: dropped, since its sender would not understand the path's mark. */
static bool combine_ecn(struct link_reader *reader, const struct message_inbound *inbound,
                        enum ecn outer) {
    struct loop *loop = &reader->loop;
    bool passes = ecn_combine(loop->mode, inbound->frame, inbound->length, outer);
    if (!passes)
        drop_frame(reader, DROP_link_reader_not_ecn_capable, inbound);
    else if (outer == ECN_CE)
        stats_add(&loop->stats->counters[COUNTER_ecn_marked], (uint64_t)inbound->n_packets);
    return passes;
}

void message_publish(struct link_reader *reader, uint64_t n_messages) {
    if (n_messages > 0)
        stats_batch(reader->loop.stats, n_messages);
    if (ring_has_unpublished(reader->loop.ring))
        write_in_place_publish(reader);
    if (reader->loop.hairpin != NULL && ring_has_unpublished(reader->loop.hairpin))
        ring_publish(reader->loop.hairpin, reader->loop.stats);
    if (reader->loop.capture != NULL)
        capture_publish(reader->loop.capture);
}
