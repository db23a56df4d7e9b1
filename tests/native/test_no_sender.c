/* Datagrams from where nothing can be sent to: all are dropped, and none moves an endpoint. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "datagram_link.h"
#include "handshakes.h"
#include "inbound/datagram_batch.h"
#include "inbound/datagram_reader.h"
#include "inbound/link_reader.h"

/* The kernel gives datagrams from port 0 as any others, but no socket of ours can send from there. */
static enum step receive_as_from(const struct udp_address *source) {
    struct link_reader *read = link_reader_of(reader.loop);
    CHECK_EQUAL(
        datagram_batch_receive(read->datagrams, read->sockets[DATAGRAM_SOCKET].fd, DATAGRAM_SOCKET),
        1);
    read->datagrams->endpoint = *source;
    return datagrams_drain(read);
}

static void what_comes_from_nowhere_is_dropped_and_moves_no_endpoint(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    datagrams_open(AEAD_CHACHA20_POLY1305, false);
    datagram_send_good(0, 0);
    datagrams_run();
    size_t n_events = reader.n_events;
    struct udp_address sources[] = {sender_endpoints[1], sender_endpoints[1], {0}};
    sources[0].port = 0;
    memset(sources[1].address, 0, sizeof sources[1].address);
    for (uint64_t i = 0; i < 3; i++) {
        datagram_send_good(1, i + 1);
        CHECK_EQUAL(receive_as_from(&sources[i]), STEP_MORE);
        datagram_send(1, message, handshake_make(message, 1, 0, mac1_key));
        CHECK_EQUAL(receive_as_from(&sources[i]), STEP_MORE);
    }
    CHECK_EQUAL(stats_read_drop(reader.lane.stats, DROP_link_reader_no_sender), 6);
    CHECK_EQUAL(reader.n_events, n_events);
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagram_send_good(1, 1); /* its counter is not used up */
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[1]));
    check_counted(2, DROP_link_reader_no_sender, 6);
    datagrams_close();
}

int main(void) {
    RUN(what_comes_from_nowhere_is_dropped_and_moves_no_endpoint);
    return EXIT_SUCCESS;
}
