#define _GNU_SOURCE
#include "inbound/datagram_reader.h"

#include <string.h>

#include "inbound/datagram_batch.h"
#include "inbound/message_in.h"

static enum step forward(struct link_reader *reader, const struct arrival *arrival,
                         const uint8_t *message, size_t length);
static bool is_from_inside(const struct link_reader *reader, const struct udp_address *sender);
static bool is_from_nowhere(const struct udp_address *sender);

enum step datagrams_read(struct link_reader *reader, unsigned socket_index) {
    int n =
        datagram_batch_receive(reader->datagrams, reader->sockets[socket_index].fd, socket_index);
    stats_call(reader->loop.stats, CALL_recvmmsg);
    if (n <= 0) {
        pace_refused();
        return STEP_MORE;
    }
    pace_accepted();
    return datagrams_drain(reader);
}

enum step datagrams_drain(struct link_reader *reader) {
    struct datagram_batch *batch = reader->datagrams;
    struct arrival arrival = {-1, &batch->endpoint, clock_now_ns(), clock_boottime_ns(),
                              ECN_NOT_ECT};
    enum step step = STEP_MORE;
    const uint8_t *message;
    uint64_t n_messages = 0;
    size_t length;
    while (step == STEP_MORE && datagram_batch_peek(batch, &message, &length)) {
        arrival.ecn = batch->ecn;
        step = forward(reader, &arrival, message, length);
        if (step == STEP_RING_FULL)
            break;
        datagram_batch_advance(batch);
        n_messages++;
    }
    message_publish(reader, n_messages);
    return step;
}

static enum step forward(struct link_reader *reader, const struct arrival *arrival,
                         const uint8_t *message, size_t length) {
    if (is_from_inside(reader, arrival->endpoint))
        return message_drop(reader, DROP_link_reader_inside_tunnel, length);
    if (is_from_nowhere(arrival->endpoint))
        return message_drop(reader, DROP_link_reader_no_sender, length);
    return message_forward(reader, arrival, message, length);
}

/* A datagram that arrived on our own device came through the tunnel: its source would be an
 * endpoint inside the tunnel. */
static bool is_from_inside(const struct link_reader *reader, const struct udp_address *sender) {
    return reader->device_index != 0 && sender->local_zone == reader->device_index;
}

/* Port 0 and the unspecified address are no place to answer to. Whoever is on the path can make any
 * authentic datagram come from there: it is not to be its peer's endpoint. */
static bool is_from_nowhere(const struct udp_address *sender) {
    static const uint8_t unspecified[sizeof sender->address];
    return sender->port == 0 || memcmp(sender->address, unspecified, sizeof unspecified) == 0;
}
