#define _GNU_SOURCE
#include "inbound/handshake_gate.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "loop/token_bucket.h"
#include "packet/byteorder.h"
#include "session/session.h"
#include "shared/clock.h"

int handshake_gate_init(struct handshake_gate *gate, const uint8_t mac1_key[MAC_KEY_MAX],
                        const uint8_t cookie_key[AEAD_KEY_SIZE]) {
    memset(gate, 0, sizeof *gate);
    gate->mac1_key = mac_key_new(mac1_key);
    if (gate->mac1_key == NULL)
        return -errno;
    if (getrandom(&gate->hash_key, sizeof gate->hash_key, 0) != sizeof gate->hash_key)
        return -EIO;
    return cookie_maker_init(&gate->cookies, cookie_key);
}

void handshake_gate_free(struct handshake_gate *gate) {
    mac_key_free(gate->mac1_key);
    gate->mac1_key = NULL;
    cookie_maker_free(&gate->cookies);
}

static bool has_valid_mac1(struct handshake_gate *gate, const uint8_t *message, size_t length) {
    size_t covered = length - MACS_LENGTH;
    return gate->mac1_key != NULL &&
           mac_is_valid(gate->mac1_key, message, covered, message + covered);
}

/* -- limits ------------------------------------------------------------------------------------ */

/* A multiplicative hash under a random key: enough to spread sources, and not to be aimed at from
 * outside. What one host has whole is one source: an IPv4 address, an IPv6 /64, and of this host, each
 * of whose users may send from all of it, 127.0.0.0/8. */
static unsigned bucket_of(const struct handshake_gate *gate, const struct udp_address *source) {
    bool is_loopback4 = source->family == UDP_ADDRESS_IPV4 && source->address[0] == 127;
    uint64_t mixed = gate->hash_key ^ (is_loopback4 ? 127 : le64_read(source->address));
    for (int round = 0; round < 3; round++) {
        mixed *= 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 29;
        mixed += gate->hash_key;
    }
    return (unsigned)(mixed >> 40) % HANDSHAKE_BUCKETS;
}

static bool source_may(struct handshake_limit *limit, unsigned bucket, uint64_t now_ns) {
    return token_take(&limit->of_source_ns[bucket], now_ns, HANDSHAKES_PER_SECOND,
                      HANDSHAKES_BURST);
}

/* -- verdicts ---------------------------------------------------------------------------------- */

/* The source's own limit first: one that exceeds it takes nothing of what the others need. */
static enum gate_verdict judge_by(struct handshake_limit *limit, unsigned bucket, uint64_t now_ns,
                                  unsigned per_second_of_all, unsigned burst_of_all) {
    bool may_pass = source_may(limit, bucket, now_ns) &&
                    token_take(&limit->of_all_ns, now_ns, per_second_of_all, burst_of_all);
    return may_pass ? GATE_OPEN : GATE_TOO_MANY;
}

/* Under load the tokens go to senders that are asked for a cookie: load lasts as long as more come
 * than the limit allows, and not until the bucket has filled behind a closed gate. */
static enum gate_verdict judge_unproven(struct handshake_gate *gate, unsigned bucket,
                                        uint64_t now_ns) {
    if (!source_may(&gate->unproven, bucket, now_ns))
        return GATE_ASK_COOKIE;
    if (!token_take(&gate->unproven.of_all_ns, now_ns, UNPROVEN_PER_SECOND_OF_ALL,
                    UNPROVEN_BURST_OF_ALL))
        gate->loaded_until_ns = now_ns + (uint64_t)LOAD_HELD_S * NS_PER_S;
    return now_ns < gate->loaded_until_ns ? GATE_ASK_COOKIE : GATE_OPEN;
}

enum gate_verdict handshake_gate_judge(struct handshake_gate *gate, const uint8_t *message,
                                       size_t length, const struct udp_address *source,
                                       uint64_t now_ns) {
    unsigned bucket = bucket_of(gate, source);
    if (le32_read(message) == MESSAGE_COOKIE)
        return judge_by(&gate->replies, bucket, now_ns, REPLIES_PER_SECOND_OF_ALL,
                        REPLIES_BURST_OF_ALL);
    if (!has_valid_mac1(gate, message, length))
        return GATE_BAD_MAC1;
    if (mac2_is_valid(&gate->cookies, message, length, source, now_ns))
        return judge_by(&gate->proven, bucket, now_ns, PROVEN_PER_SECOND_OF_ALL,
                        PROVEN_BURST_OF_ALL);
    return judge_unproven(gate, bucket, now_ns);
}
