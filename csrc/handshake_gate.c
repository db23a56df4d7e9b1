#define _GNU_SOURCE
#include "handshake_gate.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "byteorder.h"
#include "session.h"

enum { MACS_LENGTH = 2 * MAC_LENGTH, NS_PER_S = 1000000000 };

int handshake_gate_init(struct handshake_gate *gate, const uint8_t mac1_key[MAC_KEY_MAX]) {
    *gate = (struct handshake_gate){.mac1_key = mac_key_new(mac1_key)};
    if (gate->mac1_key == NULL)
        return -errno;
    if (getrandom(&gate->hash_key, sizeof gate->hash_key, 0) != sizeof gate->hash_key)
        return -EIO;
    return 0;
}

void handshake_gate_free(struct handshake_gate *gate) {
    mac_key_free(gate->mac1_key);
    gate->mac1_key = NULL;
}

static bool has_valid_mac1(struct handshake_gate *gate, const uint8_t *message, size_t length) {
    size_t covered = length - MACS_LENGTH;
    return gate->mac1_key != NULL &&
           mac_is_valid(gate->mac1_key, message, covered, message + covered);
}

/* A multiplicative hash under a random key: enough to spread sources, and not to be aimed at from
 * outside. What one host has whole is one source: an IPv4 address, an IPv6 /64. */
static unsigned bucket_of(const struct handshake_gate *gate, const struct endpoint *source) {
    uint64_t mixed = gate->hash_key ^ le64_read(source->address);
    for (int round = 0; round < 3; round++) {
        mixed *= 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 29;
        mixed += gate->hash_key;
    }
    return (unsigned)(mixed >> 40) % HANDSHAKE_BUCKETS;
}

bool token_take(uint64_t *full_at_ns, uint64_t now_ns, unsigned per_second, unsigned burst) {
    uint64_t token_ns = NS_PER_S / per_second;
    uint64_t full_at = *full_at_ns > now_ns ? *full_at_ns : now_ns;
    if (full_at + token_ns > now_ns + burst * token_ns)
        return false;
    *full_at_ns = full_at + token_ns;
    return true;
}

enum gate_verdict handshake_gate_judge(struct handshake_gate *gate, const uint8_t *message,
                                       size_t length, const struct endpoint *source,
                                       uint64_t now_ns) {
    if (le32_read(message) != MESSAGE_COOKIE && !has_valid_mac1(gate, message, length))
        return GATE_BAD_MAC1;
    if (!token_take(&gate->full_at_ns[bucket_of(gate, source)], now_ns, HANDSHAKES_PER_SECOND,
                    HANDSHAKES_BURST) ||
        !token_take(&gate->all_full_at_ns, now_ns, HANDSHAKES_PER_SECOND_OF_ALL,
                    HANDSHAKES_BURST_OF_ALL))
        return GATE_TOO_MANY;
    return GATE_OPEN;
}
