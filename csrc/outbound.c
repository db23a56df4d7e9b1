#define _GNU_SOURCE
#include "outbound.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "byteorder.h"
#include "datagram_writer.h"
#include "icmp.h"

enum {
    /* "Unreachable" and "too big" answers, at most so many a second: what is sent in vain in bulk
     * shall not cost more than it is worth. The kernel's own default for a destination is one. */
    ICMP_PER_SECOND = 100,

    NS_PER_S = 1000000000,
    /* A peer that nobody can reach is not asked for more often than WireGuard would try. */
    REPORT_INTERVAL_NS = NS_PER_S,

    IPV6_MTU_MIN = 1280,
    IPV4_DONT_FRAGMENT = 0x4000,
};

struct splitting *splitting_new(void) {
    return calloc(1, sizeof(struct splitting));
}

void splitting_free(struct splitting *splitting) {
    free(splitting);
}

static void drop(struct loop *loop, enum stats_drop reason, uint64_t n_packets, size_t n_bytes) {
    stats_count(loop->stats, n_packets, n_bytes);
    stats_dropped(loop->stats, reason, n_packets);
}

/* -- answers ----------------------------------------------------------------------------------- */

/* Tells the sender at once, instead of letting it wait for its time-outs. `mtu` 0: unreachable. */
static void answer(struct loop *loop, const uint8_t *packet, size_t length, size_t mtu) {
    uint8_t bytes[VNET_LENGTH + ICMP_ANSWER_MAX] = {0};
    uint8_t *icmp = bytes + VNET_LENGTH;
    uint64_t now_ns = clock_now_ns();
    if (loop->mode != MODE_TUN || now_ns < loop->icmp_tokens_ns)
        return;
    size_t answer_length = mtu == 0 ? icmp_unreachable(packet, length, icmp, ICMP_ANSWER_MAX)
                                    : icmp_too_big(packet, length, mtu, icmp, ICMP_ANSWER_MAX);
    if (answer_length == 0)
        return;
    loop->icmp_tokens_ns = now_ns + NS_PER_S / ICMP_PER_SECOND;
    ssize_t written = write(loop->device_fd, bytes, VNET_LENGTH + answer_length);
    (void)written; /* an answer that cannot be delivered is no loss */
}

/* -- finding the peer -------------------------------------------------------------------------- */

/* The slot that the destination belongs to, or -1. TAP and the unsealed wires have one peer. */
static int find_slot(struct loop *loop, const uint8_t *frame) {
    if (loop->wire != WIRE_WIREGUARD || loop->mode == MODE_TAP)
        return 0;
    int slot = allowedips_lookup_ip(loop->allowed_ips, frame, false);
    return slot < 0 ? -1 : slot;
}

/* Whether the link can take frames. What is sealed is not sealed under a key that is too old. */
static bool is_open(const struct loop *loop, const struct loop_link *link, uint64_t boottime_ns) {
    if (link == NULL || loop->wire != WIRE_WIREGUARD)
        return link != NULL;
    return link->sending != NULL && boottime_ns < link->sending->expires_ns;
}

/* On UDP a peer without a session may be reached by a handshake, which the gateway makes. */
void outbound_want_session(struct loop *loop, unsigned slot, uint64_t now_ns) {
    uint64_t *reported_ns = &loop->wanted_ns[slot];
    if (*reported_ns != 0 && now_ns < *reported_ns + REPORT_INTERVAL_NS)
        return;
    *reported_ns = now_ns;
    loop->wanted_slot = (int)slot;
}

static void drop_without_session(struct loop *loop, unsigned slot, const uint8_t *vnet,
                                 size_t frame_length, uint64_t now_ns) {
    struct peer_slot *peer = &loop->peers->slots[slot];
    uint64_t n_packets = message_count_packets(loop->mode, vnet, frame_length), version = 0;
    struct endpoint endpoint;
    drop(loop, DROP_tun_reader_no_session, n_packets, frame_length);
    stats_add(&peer->no_session_packets, n_packets);
    outbound_want_session(loop, slot, now_ns);
    /* A peer that has been heard on UDP may be there again in a moment. */
    if (!loop->holds && !peer_read_endpoint(peer, &version, &endpoint))
        answer(loop, vnet + VNET_LENGTH, frame_length, 0);
}

/* -- sealing ----------------------------------------------------------------------------------- */

static size_t mtu_of(const struct loop_link *link) {
    return link->path_mtu != 0 ? link->path_mtu : link->format.mtu;
}

/* Seals, where the wire does, and puts the length in front on a stream. */
static bool finish_message(struct loop *loop, struct loop_link *link, unsigned slot,
                           struct message_outbound *message) {
    if (loop->wire == WIRE_WIREGUARD) {
        if (!session_seal(link->sending, message, mtu_of(link)))
            return false;
        peer_set(&loop->peers->slots[slot].sealed, link->sending->counter);
    }
    if (!link->format.is_datagram)
        message_prefix(message);
    return true;
}

static void mark_sent(struct loop *loop, unsigned slot, uint64_t boottime_ns, bool is_data) {
    peer_set(&loop->peers->slots[slot].sent_ns, boottime_ns);
    if (is_data)
        peer_set(&loop->peers->slots[slot].sent_data_ns, boottime_ns);
}

static void commit(struct loop *loop, struct ring_record *record, unsigned slot,
                   const struct message_outbound *message, size_t n_bytes, uint32_t segment,
                   uint64_t now_ns) {
    *record = (struct ring_record){
        .offset = (uint32_t)(message->start - (uint8_t *)record),
        .length = (uint32_t)message->length,
        .n_packets = (uint32_t)message->n_packets,
        .n_bytes = (uint32_t)n_bytes,
        .slot = slot,
        .link_id = loop->links[slot]->id,
        .segment = segment,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
}

int loop_send_keepalive(struct loop *loop, unsigned slot) {
    struct loop_link *link = slot < N_PEER_SLOTS ? loop->links[slot] : NULL;
    uint64_t boottime_ns = clock_boottime_ns();
    if (outbound_is_splitting(loop) || !is_open(loop, link, boottime_ns))
        return -EAGAIN;
    struct ring_record *record = ring_reserve(loop->ring, OUTBOUND_SPACE);
    if (record == NULL || loop->wire != WIRE_WIREGUARD)
        return -EAGAIN;
    struct message_outbound message = {.start = (uint8_t *)record + OUTBOUND_OFFSET};
    if (!finish_message(loop, link, slot, &message))
        return -EAGAIN;
    mark_sent(loop, slot, boottime_ns, false);
    commit(loop, record, slot, &message, 0, 0, clock_now_ns());
    ring_publish(loop->ring, loop->stats);
    return 0;
}

/* -- what fits the path ------------------------------------------------------------------------ */

enum fit { FITS, FITS_IN_FRAGMENTS, FITS_NOT };

/* A packet that may not be fragmented, or need not since its sender will send shorter ones, is
 * answered with "too big"; the others are cut on the outside, as IP itself would. */
static enum fit fit_path(const struct loop *loop, const struct loop_link *link,
                         const uint8_t *packet, size_t length) {
    if (loop->mode != MODE_TUN || link->path_mtu == 0 || length <= link->path_mtu)
        return FITS;
    bool is_ipv4 = packet[0] >> 4 == 4;
    if (is_ipv4 && (be16_read(packet + 6) & IPV4_DONT_FRAGMENT) == 0)
        return FITS_IN_FRAGMENTS;
    /* No IPv6 sender goes below its least MTU (RFC 8200 section 5). */
    if (!is_ipv4 && length <= IPV6_MTU_MIN)
        return FITS_IN_FRAGMENTS;
    return FITS_NOT;
}

static void refuse_too_big(struct loop *loop, const struct loop_link *link, const uint8_t *packet,
                           size_t frame_length, uint64_t n_packets) {
    size_t mtu = link->path_mtu;
    if (packet[0] >> 4 == 6 && mtu < IPV6_MTU_MIN)
        mtu = IPV6_MTU_MIN;
    drop(loop, DROP_tun_reader_too_big, n_packets, frame_length);
    answer(loop, packet, frame_length, mtu);
}

/* -- a frame that stays whole ------------------------------------------------------------------ */

static enum stats_drop drop_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_tun_reader_not_ip;
    case MESSAGE_TOO_LARGE:
        return DROP_tun_reader_too_large;
    default:
        return DROP_tun_reader_bad_virtio;
    }
}

/* `vnet` stands in the record. */
static size_t take_whole(struct loop *loop, struct ring_record *record, uint8_t *vnet,
                         unsigned slot, size_t frame_length, uint64_t now_ns,
                         uint64_t boottime_ns) {
    struct loop_link *link = loop->links[slot];
    struct message_outbound message = {.n_packets = 1};
    enum message_fault fault = message_lay_out(&link->format, vnet, frame_length, &message);
    uint64_t n_packets = message.n_packets > 0 ? (uint64_t)message.n_packets : 1;
    if (fault != MESSAGE_OK) {
        drop(loop, drop_reason(fault), n_packets, frame_length);
        return 0;
    }
    enum fit fit = fit_path(loop, link, vnet + VNET_LENGTH, frame_length);
    if (link->format.is_datagram && fit == FITS_NOT) {
        refuse_too_big(loop, link, vnet + VNET_LENGTH, frame_length, n_packets);
        return 0;
    }
    if (!finish_message(loop, link, slot, &message)) {
        drop(loop, DROP_tun_reader_no_session, n_packets, frame_length);
        return 0;
    }
    stats_count(loop->stats, n_packets, frame_length);
    mark_sent(loop, slot, boottime_ns, true);
    commit(loop, record, slot, &message, frame_length,
           fit == FITS_IN_FRAGMENTS ? SEGMENT_FRAGMENTS : 0, now_ns);
    return frame_length;
}

/* -- a super-packet that is split -------------------------------------------------------------- */

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
                                   size_t frame_length) {
    struct splitting *splitting = loop->splitting;
    const uint8_t *frame = splitting->frame + VNET_LENGTH;
    struct vnet vnet = vnet_read(splitting->frame);
    size_t l3 = loop->mode == MODE_TAP ? ETHERNET_HEADER : 0;
    vnet.flags &= (uint8_t)~VNET_DATA_VALID;
    if (vnet_check(&vnet, frame, frame_length, l3) < 0)
        return DROP_tun_reader_bad_virtio;
    int n = gso_split_begin(&splitting->split, &vnet, frame, frame_length, l3);
    if (n < 0)
        return DROP_tun_reader_not_split;
    size_t longest = gso_segment_length(&splitting->split, 0);
    if (longest + segment_type_length(&link->format) > link->format.message_max)
        return DROP_tun_reader_too_large;
    enum fit fit = fit_path(loop, link, frame, longest);
    if (fit == FITS_NOT)
        return DROP_tun_reader_too_big;
    splitting->may_fragment = fit == FITS_IN_FRAGMENTS;
    splitting->n_segments = n;
    splitting->next = 0;
    return N_DROPS;
}

/* The frame stands in loop->splitting. */
static size_t take_split(struct loop *loop, unsigned slot, size_t frame_length, uint64_t now_ns,
                         uint64_t boottime_ns) {
    struct splitting *splitting = loop->splitting;
    struct loop_link *link = loop->links[slot];
    uint64_t n_packets = message_count_packets(loop->mode, splitting->frame, frame_length);
    enum stats_drop reason = begin_split(loop, link, frame_length);
    if (reason == DROP_tun_reader_too_big) {
        refuse_too_big(loop, link, splitting->frame + VNET_LENGTH, frame_length, n_packets);
        return 0;
    }
    if (reason != N_DROPS) {
        drop(loop, reason, n_packets, frame_length);
        return 0;
    }
    splitting->slot = slot;
    splitting->now_ns = now_ns;
    stats_count(loop->stats, n_packets, frame_length);
    mark_sent(loop, slot, boottime_ns, true);
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
    if (!finish_message(loop, link, splitting->slot, &message))
        return 0;
    splitting->next++;
    return message.length;
}

/* How many of the segments left go into one record. */
static int segments_a_record(const struct loop *loop, const struct loop_link *link) {
    const struct splitting *splitting = loop->splitting;
    int left = splitting->n_segments - splitting->next;
    size_t space = segment_space(loop, &link->format, gso_segment_length(&splitting->split, 0));
    int most = (int)(TRAIN_BYTES_MAX / space);
    most = most < TRAIN_SEGMENTS_MAX ? most : TRAIN_SEGMENTS_MAX;
    most = most < 1 || splitting->may_fragment ? 1 : most;
    return left < most ? left : most;
}

static uint32_t segment_of_record(const struct splitting *splitting, const struct loop_link *link,
                                  size_t first) {
    if (!link->format.is_datagram)
        return SEGMENT_WHOLE;
    return splitting->may_fragment ? SEGMENT_FRAGMENTS : (uint32_t)first;
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
        commit(loop, record, splitting->slot, &message, n_bytes,
               segment_of_record(splitting, link, first), splitting->now_ns);
    return length > 0;
}

static void give_up_split(struct loop *loop) {
    struct splitting *splitting = loop->splitting;
    stats_dropped(loop->stats, DROP_tun_reader_no_session,
                  (uint64_t)(splitting->n_segments - splitting->next));
    splitting->next = splitting->n_segments;
}

bool outbound_split(struct loop *loop) {
    while (outbound_is_splitting(loop)) {
        struct loop_link *link = loop->links[loop->splitting->slot];
        if (link == NULL || (loop->wire == WIRE_WIREGUARD && link->sending == NULL)) {
            give_up_split(loop); /* the link has gone since */
            break;
        }
        struct ring_record *record = ring_reserve(loop->ring, OUTBOUND_SPACE);
        if (record == NULL)
            return false;
        if (!fill_record(loop, link, record))
            give_up_split(loop);
    }
    return true;
}

/* -- any frame --------------------------------------------------------------------------------- */

uint8_t *outbound_target(struct loop *loop, struct ring_record *record) {
    if (loop->splitting->is_expected)
        return loop->splitting->frame;
    return (uint8_t *)record + OUTBOUND_OFFSET;
}

static bool has_to_be_split(const struct link_format *format, const uint8_t *vnet_bytes) {
    struct vnet vnet = vnet_read(vnet_bytes);
    vnet.flags &= (uint8_t)~VNET_DATA_VALID;
    return !message_takes_whole(format, &vnet);
}

size_t outbound_take(struct loop *loop, struct ring_record *record, size_t read_length,
                     uint64_t now_ns, uint64_t boottime_ns) {
    uint8_t *vnet = outbound_target(loop, record), *frame = vnet + VNET_LENGTH;
    uint8_t *in_record = (uint8_t *)record + OUTBOUND_OFFSET;
    size_t frame_length = read_length - VNET_LENGTH;
    if (!message_is_frame(loop->mode, frame, frame_length)) {
        drop(loop, DROP_tun_reader_not_ip, 1, frame_length);
        return 0;
    }
    int slot = find_slot(loop, frame);
    if (slot < 0) {
        drop(loop, DROP_tun_reader_no_peer, message_count_packets(loop->mode, vnet, frame_length),
             frame_length);
        answer(loop, frame, frame_length, 0);
        return 0;
    }
    struct loop_link *link = loop->links[slot];
    if (!is_open(loop, link, boottime_ns)) {
        drop_without_session(loop, (unsigned)slot, vnet, frame_length, now_ns);
        return 0;
    }
    bool split = has_to_be_split(&link->format, vnet);
    uint8_t *wanted = split ? loop->splitting->frame : in_record;
    if (vnet != wanted)
        memcpy(wanted, vnet, read_length);
    loop->splitting->is_expected = split;
    if (split)
        return take_split(loop, (unsigned)slot, frame_length, now_ns, boottime_ns);
    return take_whole(loop, record, wanted, (unsigned)slot, frame_length, now_ns, boottime_ns);
}
