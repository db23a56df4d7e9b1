/* handshake_gate: which handshake messages from UDP the gateway is bothered with.
 *
 * Anybody can send them, and the gateway's answer costs it some hundred microseconds of Curve25519.
 * So the link-reader, which looks at every datagram anyway, lets through only what
 *
 *   1. bears a mac1 for our key (a cookie reply has none): the sender knows whom it talks to
 *   2. comes from a source that has not sent too many of late
 *
 * The second is no proof of address, which only a cookie gives and the gateway asks for under load:
 * it keeps one loud source from filling the gateway's queue, so that the others' messages find
 * room. Sources share buckets by a keyed hash; an attacker who does not see our memory cannot aim
 * at somebody's bucket, but forged sources in great number fill them all. Nothing is allocated.
 */
#ifndef FASTUN_HANDSHAKE_GATE_H
#define FASTUN_HANDSHAKE_GATE_H

#include "endpoint.h"
#include "mac.h"

enum {
    HANDSHAKE_BUCKETS = 4096,
    /* WireGuard's own rate for a source that has proved its address; and a burst that an office
     * behind one address may send when its server is back. Some 0.5 % of a core for the gateway. */
    HANDSHAKES_PER_SECOND = 20,
    HANDSHAKES_BURST = 100,
    /* Of all sources together: what the gateway can work off, of which under load most is only to
     * ask for a cookie; the channel is not to be full of it. */
    HANDSHAKES_PER_SECOND_OF_ALL = 4000,
    HANDSHAKES_BURST_OF_ALL = 1000,
};

struct handshake_gate {
    struct mac_key *mac1_key; /* NULL: nothing passes */
    uint64_t hash_key;
    uint64_t full_at_ns[HANDSHAKE_BUCKETS]; /* when the bucket has all its tokens again */
    uint64_t all_full_at_ns;
};

enum gate_verdict { GATE_OPEN, GATE_BAD_MAC1, GATE_TOO_MANY };

/* Returns 0 or -errno. */
int handshake_gate_init(struct handshake_gate *gate, const uint8_t mac1_key[MAC_KEY_MAX]);
void handshake_gate_free(struct handshake_gate *gate);
/* Also for the handshake messages of one stream, whose peer is known but may be hostile.
 * A bucket of tokens, kept as the one moment at which it would be full. false: it is empty. */
bool token_take(uint64_t *full_at_ns, uint64_t now_ns, unsigned per_second, unsigned burst);

/* `message` has a handshake message's type and length (session_is_handshake). */
enum gate_verdict handshake_gate_judge(struct handshake_gate *gate, const uint8_t *message,
                                       size_t length, const struct endpoint *source,
                                       uint64_t now_ns);

#endif
