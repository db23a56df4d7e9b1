#define _GNU_SOURCE
#include "outbound/frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "packet/byteorder.h"
#include "packet/headers.h"
#include "packet/icmp.h"
#include "packet/mss.h"
#include "shared/clock.h"

enum {
    /* A peer that nobody can reach is not asked for more often than WireGuard would try. */
    REPORT_INTERVAL_NS = NS_PER_S,

    /* How long the only link's frames may wait. CoDel keeps those of TCP far below, this is for
     * senders that do not give way. A queue worth one round trip, even of a long way, is in it. */
    DELAY_MAX_MS = 200,
};

void outbound_drop(struct loop *loop, enum stats_drop reason, uint64_t n_packets, size_t n_bytes) {
    stats_count(loop->stats, n_packets, n_bytes);
    stats_dropped(loop->stats, reason, n_packets);
}

/* -- answers ----------------------------------------------------------------------------------- */

/* The slot of the sender's peer; -1: our own side, also where there are no allowed IPs. */
static int origin_of(struct loop *loop, const uint8_t *packet) {
    bool is_told = loop->wire == WIRE_WIREGUARD && loop->mode == MODE_TUN;
    return is_told ? allowedips_lookup_ip(loop->allowed_ips, packet, true) : -1;
}

/* Answers the sender by ICMP, so that it does not have to wait for a timeout; `mtu` is for "too
 * big". false: no answer was sent, because none is allowed or a limit was reached
 * (answer_limit.h). */
static bool answer(struct loop *loop, enum answer_kind kind, unsigned slot, const uint8_t *packet,
                   size_t length, size_t mtu) {
    uint8_t bytes[VNET_LENGTH + ICMP_ANSWER_MAX] = {0};
    uint8_t *icmp = bytes + VNET_LENGTH;
    if (loop->mode != MODE_TUN)
        return false;
    size_t answer_length = kind == ANSWER_TOO_BIG
                               ? icmp_too_big(packet, length, mtu, icmp, ICMP_ANSWER_MAX)
                               : icmp_unreachable(packet, length, icmp, ICMP_ANSWER_MAX);
    if (answer_length == 0 || !answer_limit_take(&loop->answers, kind, packet,
                                                 origin_of(loop, packet), slot, clock_now_ns()))
        return false;
    return write(loop->device_fd, bytes, VNET_LENGTH + answer_length) > 0;
}

/* -- finding the peer -------------------------------------------------------------------------- */

/* The slot of the destination's peer, or -1. TAP and the unsealed wires have one peer at a time, at
 * the slot of the last attached link. */
static int find_slot(struct loop *loop, const uint8_t *frame) {
    if (loop->wire != WIRE_WIREGUARD || loop->mode == MODE_TAP)
        return (int)loop->last_slot;
    int slot = allowedips_lookup_ip(loop->allowed_ips, frame, false);
    return slot < 0 ? -1 : slot;
}

/* Whether the link can take frames. Nothing is sealed under a key that has expired or is used
 * up. */
static bool is_open(const struct loop *loop, const struct loop_link *link, uint64_t boottime_ns) {
    if (link == NULL || loop->wire != WIRE_WIREGUARD)
        return link != NULL;
    return link->sending != NULL && boottime_ns < link->sending->expires_ns &&
           session_may_seal(link->sending);
}

/* On UDP a peer without a session may be reached by a handshake, which the gateway makes. */
void outbound_want_session(struct loop *loop, unsigned slot, uint64_t now_ns) {
    uint64_t *reported_ns = &loop->wanted_ns[slot];
    if (*reported_ns != 0 && now_ns < *reported_ns + REPORT_INTERVAL_NS)
        return;
    *reported_ns = now_ns;
    loop->wanted_slot = (int)slot;
}

/* -- without a session ------------------------------------------------------------------------- */

static void drop_without_session(struct loop *loop, unsigned slot, const uint8_t *vnet,
                                 size_t frame_length) {
    uint64_t n_packets = message_count_packets(loop->mode, vnet, frame_length);
    outbound_drop(loop, DROP_tun_reader_no_session, n_packets, frame_length);
    stats_add(&loop->peers->slots[slot].no_session_packets, n_packets);
    if (!loop->holds)
        answer(loop, ANSWER_NO_SESSION, slot, vnet + VNET_LENGTH, frame_length, 0);
}

static void drop_staged(struct loop *loop, unsigned i) {
    struct queue_entry entry;
    const uint8_t *bytes;
    staging_peek(loop->staging, i, &entry, &bytes);
    drop_without_session(loop, loop->staging->peers[i].slot, bytes, entry.length - VNET_LENGTH);
    staging_take(loop->staging, i);
}

/* A peer that has been on UDP may have a session again in a moment: its frame waits. */
static void stage(struct loop *loop, unsigned slot, const uint8_t *vnet, size_t read_length,
                  uint64_t now_ns) {
    struct queue_entry entry = {.length = (uint32_t)read_length, .enqueued_ns = now_ns};
    struct peer_slot *peer = &loop->peers->slots[slot];
    bool is_on_udp = atomic_load_explicit(&peer->endpoint_version, memory_order_relaxed) != 0;
    outbound_want_session(loop, slot, now_ns);
    int origin = origin_of(loop, vnet + VNET_LENGTH);
    if (loop->holds || !is_on_udp || !staging_append(loop->staging, slot, origin, &entry, vnet))
        drop_without_session(loop, slot, vnet, read_length - VNET_LENGTH);
}

bool outbound_unstage(struct loop *loop) {
    struct staging *staging = loop->staging;
    uint64_t now_ns = clock_now_ns(), boottime_ns = clock_boottime_ns();
    struct queue_entry entry;
    const uint8_t *bytes;
    for (unsigned i = 0; i < staging->n;) {
        unsigned slot = staging->peers[i].slot;
        staging_peek(staging, i, &entry, &bytes);
        if (is_open(loop, loop->links[slot], boottime_ns)) {
            struct ring_record *record =
                outbound_split(loop) ? ring_reserve(loop->ring, OUTBOUND_SPACE) : NULL;
            if (record == NULL)
                return false;
            memcpy(outbound_target(loop, record), bytes, entry.length);
            outbound_take(loop, record, entry.length, now_ns, boottime_ns);
            staging_take(staging, i);
        } else if (now_ns > entry.enqueued_ns + STAGED_MS_MAX * (uint64_t)NS_PER_MS) {
            drop_staged(loop, i);
        } else {
            i++;
        }
    }
    return true;
}

/* -- sealing ----------------------------------------------------------------------------------- */

static size_t mtu_of(const struct loop_link *link) {
    return link->path_mtu != 0 ? link->path_mtu : link->format.mtu;
}

/* Seals, where the wire does, and puts the length in front on a stream. */
bool outbound_finish(struct loop *loop, struct loop_link *link, unsigned slot,
                     struct message_outbound *message) {
    if (loop->wire == WIRE_WIREGUARD) {
        if (!session_seal(link->sending, message, mtu_of(link)))
            return false;
        peer_set(&loop->peers->slots[slot].sealed, link->sending->counter);
        peer_set(&loop->peers->slots[slot].sealed_blocks, link->sending->n_blocks);
    }
    if (!link->format.is_datagram)
        message_prefix(message);
    return true;
}

void outbound_mark_sent(struct loop *loop, unsigned slot, uint64_t boottime_ns, bool is_data) {
    peer_set(&loop->peers->slots[slot].sent_ns, boottime_ns);
    if (is_data)
        peer_set(&loop->peers->slots[slot].sent_data_ns, boottime_ns);
}

void outbound_commit(struct loop *loop, struct ring_record *record, unsigned slot,
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
    if (!outbound_finish(loop, link, slot, &message))
        return -EAGAIN;
    outbound_mark_sent(loop, slot, boottime_ns, false);
    outbound_commit(loop, record, slot, &message, 0, 0, clock_now_ns());
    ring_publish(loop->ring, loop->stats);
    return 0;
}

/* -- what fits the path ------------------------------------------------------------------------ */

/* A packet that may not be fragmented, or need not since its sender will send shorter ones, is
 * answered with "too big"; the others are cut on the outside, as IP itself would. So are Ethernet
 * frames: they have no such answer. */
enum fit outbound_fit(const struct loop *loop, const struct loop_link *link, const uint8_t *packet,
                      size_t length) {
    size_t type_length = loop->mode == MODE_TAP ? MESSAGE_TYPE_LENGTH : 0;
    if (!link->format.is_datagram || link->path_mtu == 0)
        return FITS;
    if (type_length + length <= link->path_mtu)
        return link->whole == 0 || type_length + length <= link->whole ? FITS : FITS_IN_FRAGMENTS;
    if (loop->mode == MODE_TAP)
        return FITS_IN_FRAGMENTS;
    bool is_ipv4 = ip_version(packet) == 4;
    if (is_ipv4 && (be16_read(packet + IPV4_FRAGMENT_OFFSET) & IPV4_DONT_FRAGMENT) == 0)
        return FITS_IN_FRAGMENTS;
    /* No IPv6 sender goes below its least MTU (RFC 8200 section 5). */
    if (!is_ipv4 && length <= IPV6_MTU_MIN)
        return FITS_IN_FRAGMENTS;
    return FITS_NOT;
}

void outbound_refuse(struct loop *loop, unsigned slot, const uint8_t *packet, size_t frame_length,
                     uint64_t n_packets) {
    size_t mtu = loop->links[slot]->path_mtu;
    if (ip_version(packet) == 6 && mtu < IPV6_MTU_MIN)
        mtu = IPV6_MTU_MIN;
    bool is_told = answer(loop, ANSWER_TOO_BIG, slot, packet, frame_length, mtu);
    outbound_drop(loop,
                  is_told ? DROP_tun_reader_exceeds_path_mtu
                          : DROP_tun_reader_exceeds_path_mtu_unanswered,
                  n_packets, frame_length);
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

/* `vnet` stands in the record. */
static size_t take_whole(struct loop *loop, struct ring_record *record, uint8_t *vnet,
                         unsigned slot, size_t frame_length, uint64_t now_ns,
                         uint64_t boottime_ns) {
    struct loop_link *link = loop->links[slot];
    struct message_outbound message = {.n_packets = 1};
    enum message_fault fault = message_encapsulate(&link->format, vnet, frame_length, &message);
    uint64_t n_packets = message.n_packets > 0 ? (uint64_t)message.n_packets : 1;
    if (fault != MESSAGE_OK) {
        outbound_drop(loop, drop_reason(fault), n_packets, frame_length);
        return 0;
    }
    enum fit fit = outbound_fit(loop, link, vnet + VNET_LENGTH, frame_length);
    if (fit == FITS_NOT) {
        outbound_refuse(loop, slot, vnet + VNET_LENGTH, frame_length, n_packets);
        return 0;
    }
    if (!outbound_finish(loop, link, slot, &message)) {
        outbound_drop(loop, DROP_tun_reader_no_session, n_packets, frame_length);
        return 0;
    }
    stats_count(loop->stats, n_packets, frame_length);
    outbound_mark_sent(loop, slot, boottime_ns, true);
    outbound_commit(loop, record, slot, &message, frame_length,
                    fit == FITS_IN_FRAGMENTS ? SEGMENT_FRAGMENTS : 0, now_ns);
    return frame_length;
}

/* -- any frame --------------------------------------------------------------------------------- */

uint8_t *outbound_target(struct loop *loop, struct ring_record *record) {
    if (loop->splitting->is_expected)
        return loop->splitting->frame;
    return (uint8_t *)record + OUTBOUND_OFFSET;
}

/* Of the only link: with several, its queue has a bound of its own. A frame in the ring will have
 * the delay measured anew, so that an old figure cannot stop a flow. */
static bool is_over_the_bound(struct loop *loop, uint64_t delay_ns) {
    return delay_ns > DELAY_MAX_MS * (uint64_t)NS_PER_MS && loop->n_links == 1 &&
           ring_used_bytes(loop->ring) > 0;
}

static bool has_waited_too_long(struct loop *loop, struct loop_link *link, unsigned slot,
                                uint64_t now_ns) {
    _Atomic uint64_t *field = &loop->peers->slots[slot].waiting_since_ns;
    uint64_t since_ns = atomic_load_explicit(field, memory_order_relaxed);
    if (loop->keeps_all)
        return false;
    uint64_t delay_ns = since_ns != 0 && since_ns < now_ns ? now_ns - since_ns : 0;
    return codel_should_drop(&link->codel, delay_ns, now_ns) || is_over_the_bound(loop, delay_ns);
}

/* A SYN is never a super-packet; one whose checksum is still to be made is so marked. */
static void clamp(const struct loop *loop, const struct loop_link *link, uint8_t *vnet_bytes,
                  size_t frame_length) {
    size_t mtu =
        link->path_mtu != 0 && link->path_mtu < loop->mss_mtu ? link->path_mtu : loop->mss_mtu;
    struct vnet vnet = vnet_read(vnet_bytes);
    if (vnet.gso_type == VNET_GSO_NONE)
        mss_clamp(vnet_bytes + VNET_LENGTH, frame_length, mtu, (vnet.flags & VNET_NEEDS_CSUM) == 0);
}

size_t outbound_take(struct loop *loop, struct ring_record *record, size_t read_length,
                     uint64_t now_ns, uint64_t boottime_ns) {
    uint8_t *vnet = outbound_target(loop, record), *frame = vnet + VNET_LENGTH;
    uint8_t *in_record = (uint8_t *)record + OUTBOUND_OFFSET;
    size_t frame_length = read_length - VNET_LENGTH;
    if (!message_is_frame(loop->mode, frame, frame_length)) {
        outbound_drop(loop, DROP_tun_reader_not_ip, 1, frame_length);
        return 0;
    }
    if (own_packets_has(loop, frame, frame_length)) {
        outbound_drop(loop, DROP_tun_reader_own_packet,
                      message_count_packets(loop->mode, vnet, frame_length), frame_length);
        return 0;
    }
    int slot = find_slot(loop, frame);
    if (slot < 0) {
        outbound_drop(loop, DROP_tun_reader_no_peer,
                      message_count_packets(loop->mode, vnet, frame_length), frame_length);
        answer(loop, ANSWER_NO_PEER, 0, frame, frame_length, 0);
        return 0;
    }
    struct loop_link *link = loop->links[slot];
    if (!is_open(loop, link, boottime_ns)) {
        stage(loop, (unsigned)slot, vnet, read_length, now_ns);
        return 0;
    }
    if (has_waited_too_long(loop, link, (unsigned)slot, now_ns)) {
        outbound_drop(loop, DROP_tun_reader_queue_delay,
                      message_count_packets(loop->mode, vnet, frame_length), frame_length);
        return 0;
    }
    if (loop->mss_mtu != 0 && loop->mode == MODE_TUN)
        clamp(loop, link, vnet, frame_length);
    bool split = !message_takes_whole(&link->format, vnet, frame_length);
    uint8_t *wanted = split ? loop->splitting->frame : in_record;
    if (vnet != wanted)
        memcpy(wanted, vnet, read_length);
    loop->splitting->is_expected = split;
    if (split)
        return splitting_take(loop, (unsigned)slot, frame_length, now_ns, boottime_ns);
    return take_whole(loop, record, wanted, (unsigned)slot, frame_length, now_ns, boottime_ns);
}
