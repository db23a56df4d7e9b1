/* handshake_in: which handshake messages reach the gateway, and which are answered with a cookie
 * here.
 *
 * On a stream the peer is known, and has a rate; on UDP the gate (handshake_gate.h) decides.
 * Belongs to the link-reader.
 */
#ifndef FASTUN_INBOUND_HANDSHAKE_IN_H
#define FASTUN_INBOUND_HANDSHAKE_IN_H

#include "inbound/handshake_gate.h"
#include "loop/loop.h"

struct link_reader;

struct handshakes {
    struct handshake_gate gate;
    uint32_t awaited_index[N_PEER_SLOTS]; /* of our last initiation to each; 0: none */
    /* Token buckets, which outlive links and sessions. */
    uint64_t replies_full_at_ns[N_PEER_SLOTS];
    uint64_t on_streams_full_at_ns[N_PEER_SLOTS];
};

/* The message has a handshake message's type and length. Returns STEP_EVENT or, when it was dropped
 * and counted, STEP_MORE. */
enum step handshake_forward(struct link_reader *reader, const struct arrival *arrival,
                            const uint8_t *message, size_t length);

#endif
