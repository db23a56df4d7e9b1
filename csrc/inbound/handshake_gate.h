/* handshake_gate: which handshake messages from UDP reach the gateway.
 *
 * Any host can send them, and the gateway's answer costs it some hundred us of Curve25519. So the
 * link-reader, which looks at every datagram anyway, judges them:
 *
 *   1. a cookie reply has no macs. handshake_in.c has checked that it names the index of a
 *      handshake message of ours and is within its peer's limit; here there is a limit for each
 *      source and one for all
 *   2. without a mac1 for our key the sender does not know our public key: dropped
 *   3. with a mac2 by the present cookie (cookie.h) the sender is where it says: a limit for each
 *      source, and one for all
 *   4. without, it may be anywhere. A source above its own limit is asked for a cookie, and takes
 *      nothing of the limit for all. When that is used up we are under load: all are asked, until
 *      it has not been used up for a second
 *
 * So in a flood from forged addresses, however many, a sender at its true address needs one round
 * trip more, and a forger does not get in. The answer is shorter than the question: an attacker
 * gains nothing by having us send it to a third host. It has no limit, which could be used up in
 * other hosts' names.
 *
 * Each of the three kinds has its own limits, because the first and the last can be used up under
 * another host's address. Sources share buckets by a keyed hash: an attacker that does not see our
 * memory cannot aim at a bucket. Nothing is allocated.
 */
#ifndef FASTUN_INBOUND_HANDSHAKE_GATE_H
#define FASTUN_INBOUND_HANDSHAKE_GATE_H

#include "inbound/cookie.h"
#include "host/udp_address.h"
#include "session/mac.h"

enum {
    HANDSHAKE_BUCKETS = 4096,
    /* WireGuard's own rate for a source that has proved its address; and a burst that an office
     * behind one address may send when its server is back. Some 0.5 % of a core for the gateway. */
    HANDSHAKES_PER_SECOND = 20,
    HANDSHAKES_BURST = 100,
    /* Of all that have not proved their address: at 0.3 ms each, 15 % of the gateway's core,
     * wherever they come from. As many at once find room in its queue
     * (fastun/link/datagram/handshake_queue.py), so a restarted server's first 500 clients are
     * there without a cookie. WireGuard says that it is under load when its queue is an eighth
     * full, which are 512 messages. */
    UNPROVEN_PER_SECOND_OF_ALL = 500,
    UNPROVEN_BURST_OF_ALL = 500,
    /* Of all that have: with the others three quarters of the gateway's core. The link-reader has
     * to go back to Python for each, so this is also what real hosts can cost the data. */
    PROVEN_PER_SECOND_OF_ALL = 2000,
    PROVEN_BURST_OF_ALL = 500,
    /* Cookie replies to us: at most one for each initiation or response that we send. */
    REPLIES_PER_SECOND = 20,
    REPLIES_BURST = 20,
    REPLIES_PER_SECOND_OF_ALL = 500,
    REPLIES_BURST_OF_ALL = 500,
    /* WireGuard's: so that load that comes and goes does not open the gate each time. */
    LOAD_HELD_S = 1,
};

/* Buckets of tokens, each kept as the one moment at which it would be full. */
struct handshake_limit {
    uint64_t of_source_ns[HANDSHAKE_BUCKETS];
    uint64_t of_all_ns;
};

struct handshake_gate {
    struct mac_key *mac1_key; /* NULL: nothing passes but cookie replies */
    struct cookie_maker cookies;
    uint64_t hash_key;
    struct handshake_limit proven, unproven, replies;
    uint64_t loaded_until_ns;
};

enum gate_verdict { GATE_OPEN, GATE_BAD_MAC1, GATE_TOO_MANY, GATE_ASK_COOKIE };

/* The keys are Hash("mac1----" || our public key) and Hash("cookie--" || our public key). Returns 0
 * or -errno; in either case handshake_gate_free may be called, as for a gate of zeros. */
int handshake_gate_init(struct handshake_gate *gate, const uint8_t mac1_key[MAC_KEY_MAX],
                        const uint8_t cookie_key[AEAD_KEY_SIZE]);
void handshake_gate_free(struct handshake_gate *gate);

/* `message` has a handshake message's type and length (session_is_handshake). GATE_ASK_COOKIE: to
 * be answered by cookie_reply, and not passed on. */
enum gate_verdict handshake_gate_judge(struct handshake_gate *gate, const uint8_t *message,
                                       size_t length, const struct udp_address *source,
                                       uint64_t now_ns);

#endif
