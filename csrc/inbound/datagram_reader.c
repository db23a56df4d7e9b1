/* The link-reader's UDP sockets: a message a datagram, from anybody.
 *
 * A socket is shared by all peers on it; whose a message is, its index says, and its tag proves.
 * Errors of a socket are other people's (an ICMP message that somebody sent back) and never end
 * anything.
 */
#define _GNU_SOURCE
#include "inbound/link_reader.h"

/* A datagram that arrived on our own device came through the tunnel: its source would be an
 * endpoint inside the tunnel. */
static bool is_from_inside(const struct loop *loop, const struct udp_address *sender) {
    return loop->device_index != 0 && sender->local_zone == loop->device_index;
}

static enum inbound_end pass_one(struct loop *loop, const struct arrival *arrival,
                                 const uint8_t *message, size_t length) {
    if (is_from_inside(loop, arrival->endpoint)) {
        inbound_drop(loop, DROP_link_reader_inside_tunnel, length);
        return INBOUND_MORE;
    }
    return inbound_pass(loop, arrival, message, length);
}

enum source_end datagrams_pass(struct loop *loop) {
    struct datagrams *datagrams = loop->datagrams;
    struct arrival arrival = {-1, &datagrams->endpoint, clock_now_ns(), clock_boottime_ns()};
    enum inbound_end end = INBOUND_MORE;
    const uint8_t *message;
    uint64_t n_messages = 0;
    size_t length;
    while (end == INBOUND_MORE && datagrams_peek(datagrams, &message, &length)) {
        end = pass_one(loop, &arrival, message, length);
        if (end == INBOUND_FULL)
            break;
        datagrams_advance(datagrams);
        n_messages++;
    }
    inbound_publish(loop, n_messages);
    if (end == INBOUND_FULL)
        return SOURCE_FULL;
    return end == INBOUND_EVENT ? SOURCE_EVENT : SOURCE_MORE;
}

enum source_end datagrams_read(struct loop *loop, unsigned socket_index) {
    int n = datagrams_receive(loop->datagrams, loop->sockets[socket_index].fd, socket_index);
    stats_call(loop->stats, CALL_recvmmsg);
    return n > 0 ? datagrams_pass(loop) : SOURCE_MORE;
}
