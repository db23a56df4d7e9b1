#define _GNU_SOURCE
#include "outbound/frame.h"

#include <errno.h>
#include <string.h>

#include "outbound/answer.h"
#include "outbound/crossing.h"
#include "outbound/flooding.h"
#include "outbound/in_pieces.h"
#include "outbound/own_packets.h"
#include "outbound/parking.h"
#include "outbound/path_fit.h"
#include "outbound/shaped_out.h"
#include "outbound/splitting.h"
#include "packet/flow.h"
#include "packet/mac_key.h"
#include "packet/mss.h"
#include "shared/clock.h"

enum {
    SLOT_ALL = CAPTURED_OF_ALL, /* of a switch: all peers */

    /* How long frames may wait. CoDel keeps those of TCP far below, this is for
     * senders that do not give way. A queue worth one round trip, even of a long way, is in it. */
    DELAY_MAX_MS = 200,
};

static int find_slot(const struct tun_reader *reader, const uint8_t *packet, size_t length,
                     const struct arrival *arrival);
static bool has_waited_too_long(struct tun_reader *reader, struct tun_reader_link *link,
                                const struct frame *frame, const struct arrival *arrival);
static uint32_t find_flow(const struct tun_reader *reader, struct tun_reader_link *link,
                          const struct frame *frame, unsigned slot);
static void clamp(const struct tun_reader *reader, const struct tun_reader_link *link,
                  const struct frame *frame);
static void place(struct tun_reader *reader, struct ring_record *record, struct frame *frame,
                  bool is_split);
static size_t forward_whole(struct tun_reader *reader, struct ring_record *record,
                            const struct frame *frame, const struct arrival *arrival);

uint8_t *frame_target(struct tun_reader *reader, struct ring_record *record) {
    if (reader->splitting->is_expected)
        return splitting_frame(reader->splitting);
    return (uint8_t *)record + FRAME_OFFSET;
}

void frame_drop(struct tun_reader *reader, enum stats_drop reason, uint64_t n_packets,
                size_t n_bytes) {
    stats_count(reader->loop.stats, n_packets, n_bytes);
    stats_dropped(reader->loop.stats, reason, n_packets);
    capture_drop(reader->loop.capture, reason);
}

static uint64_t count_packets(const struct tun_reader *reader, const struct frame *frame) {
    return message_count_packets(reader->loop.mode, frame->vnet, frame->length);
}

static void drop(struct tun_reader *reader, enum stats_drop reason, const struct frame *frame) {
    frame_drop(reader, reason, count_packets(reader, frame), frame->length);
}

size_t frame_forward(struct tun_reader *reader, struct ring_record *record, size_t read_length,
                     struct arrival *arrival) {
    struct frame frame = {frame_target(reader, record), read_length - VNET_LENGTH, 0};
    const uint8_t *packet = frame_packet(&frame);
    if (!message_is_frame(reader->loop.mode, packet, frame.length)) {
        frame_drop(reader, DROP_tun_reader_not_ip, 1, frame.length);
        return 0;
    }
    if (own_packets_has(reader, packet, frame.length)) {
        drop(reader, DROP_tun_reader_own_packet, &frame);
        return 0;
    }
    arrival->slot = find_slot(reader, packet, frame.length, arrival);
    if (arrival->slot == SLOT_ALL) {
        flooding_begin(reader, &frame, ORIGIN_DEVICE, arrival);
        return frame.length;
    }
    if (arrival->slot < 0) {
        drop(reader, DROP_tun_reader_no_peer, &frame);
        answer_sender(reader, ANSWER_NO_PEER, 0, &frame, 0);
        return 0;
    }
    if (reader->crossing != NULL && crossing_takes(reader, &frame, arrival))
        return frame.length;
    return frame_forward_to(reader, record, &frame, arrival);
}

size_t frame_forward_to(struct tun_reader *reader, struct ring_record *record, struct frame *frame,
                        const struct arrival *arrival) {
    struct tun_reader_link *link = reader->links[arrival->slot];
    if (!frame_link_is_open(reader, link, arrival->boottime_ns)) {
        parking_add(reader, frame, arrival);
        return 0;
    }
    if (reader->shaping.shapers[arrival->slot] != NULL && !shaped_out_take(reader, frame, arrival))
        return 0;
    return frame_forward_shaped(reader, record, frame, arrival);
}

size_t frame_forward_shaped(struct tun_reader *reader, struct ring_record *record,
                            struct frame *frame, const struct arrival *arrival) {
    struct tun_reader_link *link = reader->links[arrival->slot];
    if (has_waited_too_long(reader, link, frame, arrival)) {
        drop(reader, DROP_tun_reader_queue_delay, frame);
        return 0;
    }
    if (reader->mss_mtu != 0 && reader->loop.mode == MODE_TUN)
        clamp(reader, link, frame);
    frame->flow = find_flow(reader, link, frame, (unsigned)arrival->slot);
    bool is_split = !message_takes_whole(&link->format, frame->vnet, frame->length);
    place(reader, record, frame, is_split);
    return is_split ? splitting_begin(reader, frame, arrival)
                    : forward_whole(reader, record, frame, arrival);
}

/* -- the peer and its queue -------------------------------------------------------------------- */

static bool always(void *context) {
    (void)context;
    return true;
}

/* Behind which peer the destination of a frame of the device is; what sent it is on our side. Of a
 * TAP device with one peer it is that one. */
static int find_station(const struct tun_reader *reader, const uint8_t *frame, size_t length,
                        const struct arrival *arrival) {
    struct mac_table *macs = reader->loop.macs;
    if (macs == NULL)
        return (int)reader->last_slot;
    unsigned vlan = frame_vlan(frame, length);
    const uint8_t *source = frame + MAC_SOURCE_OFFSET;
    if (!mac_is_group(source) && mac_table_learn(macs, MAC_OWNER_LOCAL, mac_key_of(source, vlan),
                                                 arrival->now_ns, always, NULL) == MAC_MOVED)
        stats_add(&reader->loop.stats->counters[COUNTER_mac_moves], 1);
    if (mac_is_group(frame))
        return SLOT_ALL;
    int owner = mac_table_find(macs, mac_key_of(frame, vlan), arrival->now_ns);
    return owner >= 0 && owner < N_PEER_SLOTS ? owner : SLOT_ALL;
}

/* The slot of the destination's peer, SLOT_ALL, or -1. The unsealed wires have one peer at a time,
 * at the slot of the last attached link. */
static int find_slot(const struct tun_reader *reader, const uint8_t *packet, size_t length,
                     const struct arrival *arrival) {
    if (reader->loop.mode == MODE_TAP)
        return find_station(reader, packet, length, arrival);
    if (reader->loop.wire != WIRE_WIREGUARD)
        return (int)reader->last_slot;
    int slot = allowedips_lookup_ip(reader->allowed_ips, packet, false);
    return slot < 0 || slot == PEER_SLOT_NONE ? -1 : slot;
}

bool frame_link_is_open(const struct tun_reader *reader, const struct tun_reader_link *link,
                        uint64_t boottime_ns) {
    if (link == NULL || reader->loop.wire != WIRE_WIREGUARD)
        return link != NULL;
    return link->sending != NULL && boottime_ns < link->sending->expires_ns &&
           session_may_seal(link->sending);
}

/* A frame in the ring, of the only link, or in the queue of one of several on UDP that take turns
 * will have the delay measured anew, so that an old figure cannot stop a flow. Of several on streams
 * each has a queue with a bound of its own, since its peer may not read. */
static bool exceeds_the_bound(const struct tun_reader *reader, const struct tun_reader_link *link,
                              uint64_t delay_ns) {
    return delay_ns > DELAY_MAX_MS * (uint64_t)NS_PER_MS &&
           (reader->n_links > 1 ? link->format.is_datagram
                                : ring_used_bytes(reader->loop.ring) > 0);
}

/* In place of a drop by CoDel, before the frame is sealed. */
static bool mark(struct tun_reader *reader, const struct frame *frame) {
    if (!ecn_mark(reader->loop.mode, frame_packet(frame), frame->length))
        return false;
    stats_add(&reader->loop.stats->counters[COUNTER_ecn_marked], count_packets(reader, frame));
    return true;
}

static bool has_waited_too_long(struct tun_reader *reader, struct tun_reader_link *link,
                                const struct frame *frame, const struct arrival *arrival) {
    _Atomic uint64_t *field = &reader->loop.peers->by_link_writer[arrival->slot].waiting_since_ns;
    uint64_t since_ns = atomic_load_explicit(field, memory_order_relaxed);
    if (reader->keeps_all)
        return false;
    uint64_t delay_ns =
        since_ns != 0 && since_ns < arrival->now_ns ? arrival->now_ns - since_ns : 0;
    bool is_due = codel_should_drop(&link->codel, delay_ns, arrival->now_ns);
    return exceeds_the_bound(reader, link, delay_ns) || (is_due && !mark(reader, frame));
}

/* As the record says it. Only of a stream that was full once, which most never are. */
static uint32_t find_flow(const struct tun_reader *reader, struct tun_reader_link *link,
                          const struct frame *frame, unsigned slot) {
    _Atomic uint64_t *since_ns = &reader->loop.peers->by_link_writer[slot].waiting_since_ns;
    if (link->format.is_datagram || reader->keeps_all)
        return 0;
    link->has_waited |= atomic_load_explicit(since_ns, memory_order_relaxed) != 0;
    return link->has_waited ? 1 + flow_of(reader->loop.mode, frame_packet(frame), frame->length)
                            : 0;
}

/* A SYN is never a super-packet; one whose checksum is still to be made is so marked. */
static void clamp(const struct tun_reader *reader, const struct tun_reader_link *link,
                  const struct frame *frame) {
    size_t mtu = link->packet_max != 0 && link->packet_max < reader->mss_mtu ? link->packet_max
                                                                             : reader->mss_mtu;
    struct vnet vnet = vnet_read(frame->vnet);
    if (vnet.gso_type == VNET_GSO_NONE)
        mss_clamp(frame_packet(frame), frame->length, mtu, (vnet.flags & VNET_NEEDS_CSUM) == 0);
}

/* Puts the frame where it is worked on, if the device did not write it there: one that is split
 * beside the ring, any other into its record. What comes next is most often of the same kind. */
static void place(struct tun_reader *reader, struct ring_record *record, struct frame *frame,
                  bool is_split) {
    uint8_t *wanted =
        is_split ? splitting_frame(reader->splitting) : (uint8_t *)record + FRAME_OFFSET;
    if (frame->vnet != wanted)
        memcpy(wanted, frame->vnet, VNET_LENGTH + frame->length);
    frame->vnet = wanted;
    reader->splitting->is_expected = is_split;
}

/* -- a frame that stays whole ------------------------------------------------------------------ */

static enum stats_drop drop_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_tun_reader_not_ip;
    case MESSAGE_TOO_LARGE:
        return DROP_tun_reader_exceeds_message_max;
    default:
        return DROP_tun_reader_bad_virtio;
    }
}

/* The frame lies in the record. */
static size_t forward_whole(struct tun_reader *reader, struct ring_record *record,
                            const struct frame *frame, const struct arrival *arrival) {
    unsigned slot = (unsigned)arrival->slot;
    struct tun_reader_link *link = reader->links[slot];
    struct message_outbound message = {.n_packets = 1};
    enum message_fault fault =
        message_encapsulate(&link->format, frame->vnet, frame->length, &message);
    uint64_t n_packets = message.n_packets > 0 ? (uint64_t)message.n_packets : 1;
    if (fault != MESSAGE_OK) {
        frame_drop(reader, drop_reason(fault), n_packets, frame->length);
        return 0;
    }
    message.flow = frame->flow;
    enum fit fit = path_fit(reader, link, frame_packet(frame), frame->length);
    if (fit == FITS_NOT) {
        path_refuse(reader, slot, frame, n_packets);
        return 0;
    }
    uint32_t segment = fit == FITS_IN_FRAGMENTS ? SEGMENT_FRAGMENTS : SEGMENT_WHOLE;
    bool is_sealed = fit == FITS_IN_PIECES ? pieces_seal(reader, link, slot, frame_packet(frame),
                                                         frame->length, &message)
                                           : frame_seal(reader, link, slot, &message);
    if (!is_sealed) {
        frame_drop(reader, DROP_tun_reader_no_session, n_packets, frame->length);
        return 0;
    }
    if (fit == FITS_IN_PIECES)
        segment = (uint32_t)message.length / 2;
    stats_count(reader->loop.stats, n_packets, frame->length);
    frame_mark_sent(reader, arrival, true);
    frame_commit(reader, record, arrival, &message, frame->length, segment);
    return frame->length;
}

/* -- sealing, and into the ring ---------------------------------------------------------------- */

void frame_note_sealed(struct tun_reader *reader, const struct tun_reader_link *link,
                       unsigned slot) {
    struct peer_outbound *peer = &reader->loop.peers->by_tun_reader[slot];
    peer_set(&peer->sealed, session_next_counter(link->sending));
    peer_set(&peer->sealed_blocks, session_n_blocks(link->sending));
}

bool frame_seal_from(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                     const uint8_t *content, struct message_outbound *message) {
    if (!session_seal_from(link->sending, content, message))
        return false;
    frame_note_sealed(reader, link, slot);
    return true;
}

bool frame_seal(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                struct message_outbound *message) {
    if (reader->loop.wire == WIRE_WIREGUARD) {
        if (!session_seal(link->sending, message, tun_reader_padding_max(link)))
            return false;
        frame_note_sealed(reader, link, slot);
    }
    if (!link->format.is_datagram)
        message_prefix(message);
    return true;
}

void frame_mark_sent(struct tun_reader *reader, const struct arrival *arrival, bool is_data) {
    struct peer_outbound *peer = &reader->loop.peers->by_tun_reader[arrival->slot];
    peer_set(&peer->sent_ns, arrival->boottime_ns);
    if (is_data)
        peer_set(&peer->sent_data_ns, arrival->boottime_ns);
}

void frame_commit(struct tun_reader *reader, struct ring_record *record,
                  const struct arrival *arrival, const struct message_outbound *message,
                  size_t n_bytes, uint32_t segment) {
    *record = (struct ring_record){
        .offset = (uint32_t)(message->start - (uint8_t *)record),
        .length = (uint32_t)message->length,
        .n_packets = (uint32_t)message->n_packets,
        .n_bytes = (uint32_t)n_bytes,
        .slot = (unsigned)arrival->slot,
        .link_id = reader->links[arrival->slot]->id,
        .segment = segment,
        .ecn = message->ecn,
        .flow = message->flow,
        .enqueued_ns = arrival->now_ns,
    };
    ring_commit(reader->loop.ring, record);
    train_fill_note(&reader->train_fill, record);
}
