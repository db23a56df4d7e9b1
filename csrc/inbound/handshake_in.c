#define _GNU_SOURCE
#include "inbound/handshake_in.h"

#include <string.h>
#include <sys/socket.h>

#include "inbound/message_in.h"
#include "loop/token_bucket.h"
#include "packet/byteorder.h"

static enum step forward_on_stream(struct link_reader *reader, const struct arrival *arrival,
                                   size_t length);
static enum step forward_on_udp(struct link_reader *reader, const struct arrival *arrival,
                                const uint8_t *message, size_t length);
static int slot_replying(const struct link_reader *reader, const uint8_t *reply);
static enum stats_drop answer_with_cookie(struct link_reader *reader, const struct arrival *arrival,
                                          const uint8_t *message, size_t length);

enum step handshake_forward(struct link_reader *reader, const struct arrival *arrival,
                            const uint8_t *message, size_t length) {
    memcpy(reader->loop.event.bytes, message, length);
    reader->loop.event.length = (uint32_t)length;
    return arrival->slot >= 0 ? forward_on_stream(reader, arrival, length)
                              : forward_on_udp(reader, arrival, message, length);
}

/* The peer is known but may be hostile. */
static enum step forward_on_stream(struct link_reader *reader, const struct arrival *arrival,
                                   size_t length) {
    unsigned slot = (unsigned)arrival->slot;
    if (!token_take(&reader->handshakes.on_streams_full_at_ns[slot], arrival->now_ns,
                    HANDSHAKES_PER_SECOND, HANDSHAKES_BURST))
        return message_drop(reader, DROP_link_reader_handshake_flood, length);
    return loop_report(&reader->loop, slot, link_reader_link_id(reader, slot),
                       EVENT_STREAM_HANDSHAKE, 0);
}

static enum step forward_on_udp(struct link_reader *reader, const struct arrival *arrival,
                                const uint8_t *message, size_t length) {
    struct handshakes *handshakes = &reader->handshakes;
    if (le32_read(message) == MESSAGE_COOKIE) {
        int slot = slot_replying(reader, message);
        if (slot < 0)
            return message_drop(reader, DROP_link_reader_cookie_unasked, length);
        if (!token_take(&handshakes->replies_full_at_ns[slot], arrival->now_ns, REPLIES_PER_SECOND,
                        REPLIES_BURST))
            return message_drop(reader, DROP_link_reader_handshake_flood, length);
    }
    switch (handshake_gate_judge(&handshakes->gate, message, length, arrival->endpoint,
                                 arrival->now_ns)) {
    case GATE_BAD_MAC1:
        return message_drop(reader, DROP_link_reader_bad_mac1, length);
    case GATE_TOO_MANY:
        return message_drop(reader, DROP_link_reader_handshake_flood, length);
    case GATE_ASK_COOKIE:
        return message_drop(reader, answer_with_cookie(reader, arrival, message, length), length);
    case GATE_OPEN:
        break;
    }
    reader->loop.event.kind = EVENT_UDP_HANDSHAKE;
    reader->loop.event.endpoint = *arrival->endpoint;
    return STEP_EVENT;
}

/* The peer that this cookie reply may be from: it names our last initiation to that peer, or an
 * unconfirmed response of ours. -1: none. Only a host on the path can know those indices; without
 * this check any host could use up the limits under forged addresses. */
static int slot_replying(const struct link_reader *reader, const uint8_t *reply) {
    uint32_t index = session_receiver_index(reply);
    const struct receiving_key *key = key_table_find(reader->keys, index);
    if (key != NULL && !key->is_confirmed)
        return (int)key->slot;
    for (int slot = 0; index != 0 && slot < N_PEER_SLOTS; slot++)
        if (reader->handshakes.awaited_index[slot] == index)
            return slot;
    return -1;
}

/* -- cookies ----------------------------------------------------------------------------------- */

static ssize_t send_reply(struct link_reader *reader, const struct udp_address *to,
                          uint8_t reply[COOKIE_REPLY_LENGTH]) {
    const struct loop_socket *where = &reader->sockets[to->socket_index % N_SOCKETS];
    struct iovec iov = {reply, COOKIE_REPLY_LENGTH};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct envelope envelope;
    udp_address_envelope(to, where->family, &envelope, &message);
    stats_call(reader->loop.stats, CALL_sendmsg);
    return sendmsg(where->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* From here, since the gateway could not keep up with a flood. A cookie that is lost is asked for
 * again, so nothing waits for a socket that is full. */
static enum stats_drop answer_with_cookie(struct link_reader *reader, const struct arrival *arrival,
                                          const uint8_t *message, size_t length) {
    uint8_t reply[COOKIE_REPLY_LENGTH];
    stats_call(reader->loop.stats, CALL_getrandom);
    bool is_sent = cookie_reply(&reader->handshakes.gate.cookies, message, length,
                                arrival->endpoint, arrival->now_ns, reply) == 0 &&
                   send_reply(reader, arrival->endpoint, reply) == COOKIE_REPLY_LENGTH;
    return is_sent ? DROP_link_reader_cookie_sent : DROP_link_reader_cookie_not_sent;
}
