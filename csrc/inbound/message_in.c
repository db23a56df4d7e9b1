#define _GNU_SOURCE
#include "inbound/message_in.h"

#include <string.h>
#include <sys/socket.h>

#include "packet/byteorder.h"
#include "packet/mss.h"

enum {
    /* Where a message's content begins in its record, so that the frame in it can get its
     * virtio_net_hdr in front: a bare packet has nothing there yet. */
    CONTENT_OFFSET = sizeof(struct ring_record) + VNET_LENGTH,
};

void inbound_drop(struct loop *loop, enum stats_drop reason, size_t length) {
    stats_count(loop->stats, 1, length);
    stats_dropped(loop->stats, reason, 1);
}

static enum inbound_end drop(struct loop *loop, enum stats_drop reason, size_t length) {
    inbound_drop(loop, reason, length);
    return INBOUND_MORE;
}

static size_t record_space(size_t message_length) {
    size_t used = CONTENT_OFFSET + message_length;
    return (used + RING_RECORD_ALIGN - 1) & ~(size_t)(RING_RECORD_ALIGN - 1);
}

size_t inbound_space_max(void) {
    return record_space(MESSAGE_MAX);
}

void inbound_publish(struct loop *loop, uint64_t n_messages) {
    if (n_messages > 0)
        stats_batch(loop->stats, n_messages);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
}

/* -- content ----------------------------------------------------------------------------------- */

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

static bool is_own_source(struct loop *loop, unsigned slot, const uint8_t *frame) {
    if (loop->wire != WIRE_WIREGUARD || loop->mode == MODE_TAP)
        return true;
    return allowedips_lookup_ip(loop->allowed_ips, frame, true) == (int)slot;
}

/* The content stands in the record; makes a frame of it, or drops it. */
static void pass_content(struct loop *loop, unsigned slot, const struct link_format *format,
                         struct ring_record *record, size_t length, uint64_t now_ns) {
    struct message_inbound inbound;
    uint8_t *content = (uint8_t *)record + CONTENT_OFFSET;
    enum message_fault fault = message_decapsulate(format, content, length, &inbound);
    if (fault != MESSAGE_OK) {
        inbound_drop(loop, fault_reason(fault), length);
        return;
    }
    stats_count(loop->stats, (uint64_t)inbound.n_packets, inbound.length);
    if (!is_own_source(loop, slot, inbound.frame)) {
        stats_dropped(loop->stats, DROP_link_reader_bad_source, (uint64_t)inbound.n_packets);
        return;
    }
    if (loop->mss_mtu != 0 && loop->mode == MODE_TUN && inbound.n_packets == 1)
        mss_clamp(inbound.frame, inbound.length, loop->mss_mtu, vnet_is_plain(&inbound.vnet));
    uint8_t *vnet = inbound.frame - VNET_LENGTH;
    vnet_write(&inbound.vnet, vnet);
    *record = (struct ring_record){
        .offset = (uint32_t)(vnet - (uint8_t *)record),
        .length = (uint32_t)(VNET_LENGTH + inbound.length),
        .n_packets = (uint32_t)inbound.n_packets,
        .n_bytes = (uint32_t)inbound.length,
        .slot = slot,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
    stats_add(&loop->peers->slots[slot].receive_packets, (uint64_t)inbound.n_packets);
    stats_add(&loop->peers->slots[slot].receive_bytes, inbound.length);
}

/* -- data messages ----------------------------------------------------------------------------- */

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
static struct receiving_key *find_key(struct loop *loop, const struct arrival *arrival,
                                      uint32_t index) {
    struct receiving_key *key = key_table_find(loop->keys, index);
    if (key == NULL || arrival->boottime_ns >= key->expires_ns)
        return NULL;
    return arrival->slot < 0 || key->slot == (unsigned)arrival->slot ? key : NULL;
}

static void mark_received(struct loop *loop, unsigned slot, const struct arrival *arrival,
                          bool is_data) {
    struct peer_slot *peer = &loop->peers->slots[slot];
    peer_set(&peer->received_ns, arrival->boottime_ns);
    if (is_data)
        peer_set(&peer->received_data_ns, arrival->boottime_ns);
    if (arrival->endpoint != NULL && !udp_address_equal(arrival->endpoint, &loop->endpoints[slot]))
        loop_set_endpoint(loop, slot, arrival->endpoint);
}

static enum inbound_end report(struct loop *loop, const struct receiving_key *key,
                               enum event_kind kind) {
    loop->event.index = key->index;
    loop_report(loop, key->slot, kind, 0);
    return INBOUND_EVENT;
}

/* A control message on UDP: a hello, a probe. (A stream's hello was read by the gateway.) */
static bool is_control(const struct arrival *arrival, const uint8_t *content, size_t length) {
    return arrival->slot < 0 && length > 0 && content[0] == MESSAGE_CONTROL &&
           length <= EVENT_BYTES_MAX;
}

/* An authentic peer may still flood, and a session more would be no new allowance. */
static bool may_reach_gateway(struct loop *loop, const struct arrival *arrival, unsigned slot) {
    return token_take(&loop->controls_full_at_ns[slot], arrival->now_ns, CONTROLS_PER_SECOND,
                      CONTROLS_BURST);
}

static enum inbound_end pass_control(struct loop *loop, const struct receiving_key *key,
                                     const uint8_t *content, size_t length) {
    memcpy(loop->event.bytes, content, length);
    loop->event.length = (uint32_t)length;
    return report(loop, key, EVENT_CONTROL);
}

static enum inbound_end pass_opened(struct loop *loop, const struct arrival *arrival,
                                    struct receiving_key *key, struct ring_record *record,
                                    size_t length) {
    const uint8_t *content = (uint8_t *)record + CONTENT_OFFSET;
    bool is_first = !key->is_confirmed;
    key->is_confirmed = true;
    bool has_control = is_control(arrival, content, length);
    if (has_control && may_reach_gateway(loop, arrival, key->slot))
        return pass_control(loop, key, content, length);
    const struct loop_link *link = loop->links[key->slot];
    if (has_control)
        drop(loop, DROP_link_reader_control_flood, length);
    else if (length > 0)
        pass_content(loop, key->slot, arrival->slot < 0 ? &loop->datagram_format : &link->format,
                     record, length, arrival->now_ns);
    return is_first ? report(loop, key, EVENT_CONFIRMED) : INBOUND_MORE;
}

static enum inbound_end pass_data(struct loop *loop, const struct arrival *arrival,
                                  struct ring_record *record, const uint8_t *message,
                                  size_t length) {
    struct receiving_key *key = find_key(loop, arrival, session_receiver_index(message));
    if (key == NULL)
        return drop(loop, DROP_link_reader_unknown_index, length);
    int opened = session_open(key, message, length, (uint8_t *)record + CONTENT_OFFSET);
    if (opened < 0)
        return drop(loop, open_reason(opened), length);
    mark_received(loop, key->slot, arrival, opened > 0);
    return pass_opened(loop, arrival, key, record, (size_t)opened);
}

/* -- handshake messages ------------------------------------------------------------------------ */

static ssize_t send_reply(struct loop *loop, const struct udp_address *to,
                          uint8_t reply[COOKIE_REPLY_LENGTH]) {
    const struct loop_socket *where = &loop->sockets[to->socket_index % N_SOCKETS];
    struct iovec iov = {reply, COOKIE_REPLY_LENGTH};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct envelope envelope;
    udp_address_envelope(to, where->family, &envelope, &message);
    stats_call(loop->stats, CALL_sendmsg);
    return sendmsg(where->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* From here, since the gateway could not keep up with a flood. A cookie that is lost is asked for
 * again, so nothing waits for a socket that is full. */
static enum stats_drop answer_with_cookie(struct loop *loop, const struct arrival *arrival,
                                          const uint8_t *message, size_t length) {
    uint8_t reply[COOKIE_REPLY_LENGTH];
    stats_call(loop->stats, CALL_getrandom);
    bool is_sent = cookie_reply(&loop->gate.cookies, message, length, arrival->endpoint,
                                arrival->now_ns, reply) == 0 &&
                   send_reply(loop, arrival->endpoint, reply) == COOKIE_REPLY_LENGTH;
    return is_sent ? DROP_link_reader_cookie_sent : DROP_link_reader_cookie_not_sent;
}

/* The peer that this cookie reply may be from: it names our last initiation to that peer, or an
 * unconfirmed response of ours. -1: none. Only a host on the path can know those indices; without
 * this check any host could use up the limits under forged addresses. */
static int slot_replying(const struct loop *loop, const uint8_t *reply) {
    uint32_t index = session_receiver_index(reply);
    const struct receiving_key *key = key_table_find(loop->keys, index);
    if (key != NULL && !key->is_confirmed)
        return (int)key->slot;
    for (int slot = 0; index != 0 && slot < N_PEER_SLOTS; slot++)
        if (loop->awaited_index[slot] == index)
            return slot;
    return -1;
}

static enum inbound_end pass_handshake(struct loop *loop, const struct arrival *arrival,
                                       const uint8_t *message, size_t length) {
    memcpy(loop->event.bytes, message, length);
    loop->event.length = (uint32_t)length;
    if (arrival->slot >= 0) {
        if (!token_take(&loop->handshakes_full_at_ns[arrival->slot], arrival->now_ns,
                        HANDSHAKES_PER_SECOND, HANDSHAKES_BURST))
            return drop(loop, DROP_link_reader_handshake_flood, length);
        loop_report(loop, (unsigned)arrival->slot, EVENT_STREAM_HANDSHAKE, 0);
        return INBOUND_EVENT;
    }
    if (le32_read(message) == MESSAGE_COOKIE) {
        int slot = slot_replying(loop, message);
        if (slot < 0)
            return drop(loop, DROP_link_reader_cookie_unasked, length);
        if (!token_take(&loop->replies_full_at_ns[slot], arrival->now_ns, REPLIES_PER_SECOND,
                        REPLIES_BURST))
            return drop(loop, DROP_link_reader_handshake_flood, length);
    }
    switch (
        handshake_gate_judge(&loop->gate, message, length, arrival->endpoint, arrival->now_ns)) {
    case GATE_BAD_MAC1:
        return drop(loop, DROP_link_reader_bad_mac1, length);
    case GATE_TOO_MANY:
        return drop(loop, DROP_link_reader_handshake_flood, length);
    case GATE_ASK_COOKIE:
        return drop(loop, answer_with_cookie(loop, arrival, message, length), length);
    case GATE_OPEN:
        break;
    }
    loop->event.kind = EVENT_UDP_HANDSHAKE;
    loop->event.endpoint = *arrival->endpoint;
    return INBOUND_EVENT;
}

enum inbound_end inbound_pass(struct loop *loop, const struct arrival *arrival,
                              const uint8_t *message, size_t length) {
    if (loop->wire == WIRE_WIREGUARD && session_is_handshake(message, length))
        return pass_handshake(loop, arrival, message, length);
    if (loop->wire == WIRE_WIREGUARD && !session_is_data(message, length))
        return drop(loop, DROP_link_reader_bad_type, length);
    struct ring_record *record = ring_reserve(loop->ring, record_space(length));
    if (record == NULL)
        return INBOUND_FULL;
    if (loop->wire == WIRE_WIREGUARD)
        return pass_data(loop, arrival, record, message, length);
    memcpy((uint8_t *)record + CONTENT_OFFSET, message, length);
    unsigned slot = (unsigned)arrival->slot;
    pass_content(loop, slot, &loop->links[slot]->format, record, length, arrival->now_ns);
    return INBOUND_MORE;
}
