/* tun-reader: the first stage of the outbound direction.
 *
 *   1. wait for ring space for one longest frame, then for the device
 *   2. read frames straight into the ring, behind room for their outer headers
 *   3. find the peer by the destination address
 *   4. lay out the message around each frame where it lies, and seal it in place
 *   5. publish the burst at once
 *
 * It alone reads the device queue, alone holds the sending keys and alone produces into the
 * outbound ring.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "icmp.h"

enum {
    /* A burst ends here even if the device has more: the link-writer should start meanwhile. */
    BURST_FRAMES_MAX = 64,
    BURST_BYTES_MAX = 256 * 1024,
    SLOT_OFFSET = sizeof(struct ring_record) + MESSAGE_HEADROOM,
    SLOT_SPACE = SLOT_OFFSET + VNET_LENGTH + DEVICE_FRAME_MAX + MESSAGE_TAILROOM,

    /* How long the device's queue holds packets for a dialling side without a session: it covers a
     * worker's restart and the re-dial, and what is older is of little use to TCP. */
    HOLD_MS = 1000,

    /* "Unreachable" answers, at most so many a second: what is sent to nobody in bulk shall not
     * cost more than it is worth. The kernel's own default for a destination is one a second. */
    ICMP_PER_SECOND = 100,
};

enum burst_end { BURST_DRAINED, BURST_LIMIT, BURST_RING_FULL, BURST_DEVICE_GONE };

static enum stats_drop drop_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_tun_reader_not_ip;
    case MESSAGE_TOO_LARGE:
        return DROP_tun_reader_too_large;
    case MESSAGE_NOT_OFFERED:
        return DROP_tun_reader_not_offered;
    default:
        return DROP_tun_reader_bad_virtio;
    }
}

/* -- finding the peer -------------------------------------------------------------------------- */

/* Tells the sender at once, instead of letting it wait for its time-outs. */
static void answer_unreachable(struct loop *loop, const uint8_t *packet, size_t length) {
    uint8_t answer[VNET_LENGTH + ICMP_ANSWER_MAX] = {0};
    uint64_t now_ns = clock_now_ns();
    if (now_ns < loop->icmp_tokens_ns)
        return;
    size_t answer_length = icmp_unreachable(packet, length, answer + VNET_LENGTH, ICMP_ANSWER_MAX);
    if (answer_length == 0)
        return;
    loop->icmp_tokens_ns = now_ns + 1000000000u / ICMP_PER_SECOND;
    ssize_t written = write(loop->device_fd, answer, VNET_LENGTH + answer_length);
    (void)written; /* an answer that cannot be delivered is no loss */
}

/* The link of the peer that owns the destination; NULL, with the reason, when there is none. TAP
 * and the unsealed wires have one peer, in slot 0. */
static struct loop_link *find_link(struct loop *loop, const uint8_t *frame, unsigned *slot,
                                   enum stats_drop *reason) {
    bool has_one_peer = loop->wire != WIRE_WIREGUARD || loop->mode == MODE_TAP;
    int found = has_one_peer ? 0 : allowedips_lookup_ip(loop->allowed_ips, frame, false);
    *reason = found < 0 ? DROP_tun_reader_no_peer : DROP_tun_reader_no_session;
    if (found < 0)
        return NULL;
    *slot = (unsigned)found;
    struct loop_link *link = loop->links[found];
    if (link != NULL && (loop->wire != WIRE_WIREGUARD || link->sending != NULL))
        return link;
    return NULL;
}

/* -- one frame --------------------------------------------------------------------------------- */

static void drop(struct loop *loop, enum stats_drop reason, uint64_t n_packets, size_t n_bytes) {
    stats_count(loop->stats, n_packets, n_bytes);
    stats_dropped(loop->stats, reason, n_packets);
}

static bool seal(struct loop *loop, struct loop_link *link, unsigned slot,
                 struct message_outbound *message) {
    struct peer_slot *peer = &loop->peers->slots[slot];
    if (loop->wire != WIRE_WIREGUARD)
        return true;
    if (!session_seal(link->sending, message))
        return false;
    peer_set(&peer->sealed, link->sending->counter);
    return true;
}

static void commit(struct loop *loop, struct ring_record *record, unsigned slot,
                   const struct message_outbound *message, size_t frame_length, uint64_t now_ns) {
    *record = (struct ring_record){
        .offset = (uint32_t)(message->start - (uint8_t *)record),
        .length = (uint32_t)message->length,
        .n_packets = (uint32_t)message->n_packets,
        .n_bytes = (uint32_t)frame_length,
        .slot = slot,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
}

static void mark_sent(struct loop *loop, unsigned slot, uint64_t boottime_ns, bool is_data) {
    peer_set(&loop->peers->slots[slot].sent_ns, boottime_ns);
    if (is_data)
        peer_set(&loop->peers->slots[slot].sent_data_ns, boottime_ns);
}

/* One frame, as the device wrote it into the slot, becomes a record. Returns its bytes. */
static size_t take_frame(struct loop *loop, struct ring_record *record, size_t read_length,
                         uint64_t now_ns, uint64_t boottime_ns) {
    uint8_t *vnet = (uint8_t *)record + SLOT_OFFSET;
    size_t frame_length = read_length - VNET_LENGTH;
    struct message_outbound message = {.n_packets = 1};
    enum stats_drop reason = DROP_tun_reader_no_session;
    unsigned slot;
    if (loop->mode == MODE_TUN && !message_is_frame(MODE_TUN, vnet + VNET_LENGTH, frame_length)) {
        drop(loop, DROP_tun_reader_not_ip, 1, frame_length);
        return 0;
    }
    struct loop_link *link = find_link(loop, vnet + VNET_LENGTH, &slot, &reason);
    if (link == NULL) {
        uint64_t n_packets = message_count_packets(loop->mode, vnet, frame_length);
        drop(loop, reason, n_packets, frame_length);
        if (reason == DROP_tun_reader_no_session)
            stats_add(&loop->peers->slots[slot].no_session_packets, n_packets);
        if (loop->mode == MODE_TUN && !loop->holds)
            answer_unreachable(loop, vnet + VNET_LENGTH, frame_length);
        return 0;
    }
    enum message_fault fault = message_lay_out(&link->format, vnet, frame_length, &message);
    uint64_t n_packets = message.n_packets > 0 ? (uint64_t)message.n_packets : 1;
    if (fault != MESSAGE_OK || !seal(loop, link, slot, &message)) {
        drop(loop, fault == MESSAGE_OK ? reason : drop_reason(fault), n_packets, frame_length);
        return 0;
    }
    stats_count(loop->stats, n_packets, frame_length);
    mark_sent(loop, slot, boottime_ns, true);
    message_prefix(&message);
    commit(loop, record, slot, &message, frame_length, now_ns);
    return frame_length;
}

int loop_send_keepalive(struct loop *loop, unsigned slot) {
    struct loop_link *link = slot < N_PEER_SLOTS ? loop->links[slot] : NULL;
    struct ring_record *record = ring_reserve(loop->ring, SLOT_SPACE);
    if (link == NULL || link->sending == NULL || record == NULL)
        return -EAGAIN;
    struct message_outbound message = {.start = (uint8_t *)record + SLOT_OFFSET};
    if (!seal(loop, link, slot, &message))
        return -EAGAIN;
    mark_sent(loop, slot, clock_boottime_ns(), false);
    message_prefix(&message);
    commit(loop, record, slot, &message, 0, clock_now_ns());
    ring_publish(loop->ring, loop->stats);
    return 0;
}

/* -- bursts ------------------------------------------------------------------------------------ */

static enum burst_end read_burst(struct loop *loop, size_t *n_frames) {
    uint64_t now_ns = clock_now_ns(), boottime_ns = clock_boottime_ns();
    size_t n_bytes = 0;
    while (*n_frames < BURST_FRAMES_MAX && n_bytes < BURST_BYTES_MAX) {
        struct ring_record *record = ring_reserve(loop->ring, SLOT_SPACE);
        if (record == NULL)
            return BURST_RING_FULL;
        ssize_t n =
            read(loop->device_fd, (uint8_t *)record + SLOT_OFFSET, VNET_LENGTH + DEVICE_FRAME_MAX);
        stats_call(loop->stats, CALL_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            loop->error = errno;
            /* EIO: the interface is down; ppoll sleeps until it is up again */
            return errno == EAGAIN || errno == EIO ? BURST_DRAINED : BURST_DEVICE_GONE;
        }
        if (n < VNET_LENGTH)
            continue; /* not seen from any kernel: a frame is never shorter than its header */
        n_bytes += take_frame(loop, record, (size_t)n, now_ns, boottime_ns);
        ++*n_frames;
    }
    return BURST_LIMIT;
}

static enum burst_end pass_burst(struct loop *loop) {
    size_t n_frames = 0;
    enum burst_end end = read_burst(loop, &n_frames);
    if (n_frames > 0)
        stats_batch(loop->stats, n_frames);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
    return end;
}

/* -- waiting for a session --------------------------------------------------------------------- */

void loop_hold_without_session(struct loop *loop) {
    loop->holds = true;
}

/* For how many more ms the device is left alone because the only session is in the making. */
static int hold_ms(struct loop *loop) {
    struct loop_link *link = loop->links[0];
    if (!loop->holds || (link != NULL && link->sending != NULL)) {
        loop->held_since_ns = 0;
        return 0;
    }
    uint64_t now_ns = clock_now_ns();
    if (loop->held_since_ns == 0)
        loop->held_since_ns = now_ns;
    uint64_t held_ms = (now_ns - loop->held_since_ns) / 1000000;
    return held_ms < HOLD_MS ? (int)(HOLD_MS - held_ms) : 0;
}

enum loop_end tun_reader_loop(struct loop *loop) {
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        int hold = hold_ms(loop);
        if (hold > 0) {
            end = wait_fd(-1, 0, hold, loop->channel_fd, loop->stats);
            continue;
        }
        switch (pass_burst(loop)) {
        case BURST_LIMIT:
            break;
        case BURST_DRAINED:
            end = wait_fd(loop->device_fd, POLLIN, -1, loop->channel_fd, loop->stats);
            break;
        case BURST_RING_FULL:
            end = ring_wait_space(loop->ring, SLOT_SPACE, loop->channel_fd, loop->stats);
            break;
        case BURST_DEVICE_GONE:
            return LOOP_DEVICE_GONE;
        }
    }
    return LOOP_DOORBELL;
}
