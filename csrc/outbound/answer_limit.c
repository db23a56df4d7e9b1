#define _GNU_SOURCE
#include "outbound/answer_limit.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "packet/byteorder.h"
#include "packet/headers.h"
#include "loop/token_bucket.h"

int answer_limit_init(struct answer_limit *limit) {
    memset(limit, 0, sizeof *limit);
    bool is_random =
        getrandom(&limit->hash_key, sizeof limit->hash_key, 0) == (ssize_t)sizeof limit->hash_key;
    return is_random ? 0 : -EIO;
}

/* A source: an IPv4 address, an IPv6 /64. */
static uint64_t sender_of(const uint8_t *packet) {
    const uint8_t *source = ip_source(packet);
    return ip_version(packet) == 4 ? be32_read(source) : le64_read(source);
}

static size_t hash(const struct answer_limit *limit, uint64_t source, uint64_t kind) {
    uint64_t words[] = {source, kind}, mixed = limit->hash_key;
    for (int i = 0; i < 2; i++) {
        mixed = (mixed ^ words[i]) * 0x9e3779b97f4a7c15u;
        mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u + limit->hash_key;
    }
    return (mixed >> 40) % ANSWER_BUCKETS;
}

/* All levels are checked before a token is taken: a packet that gets no answer uses none. */
static bool has_token(uint64_t full_at_ns, uint64_t now_ns, unsigned per_second) {
    return token_take(&full_at_ns, now_ns, per_second, per_second);
}

bool answer_limit_allows(struct answer_limit *limit, enum answer_kind kind, const uint8_t *packet,
                         int origin, unsigned slot, uint64_t now_ns) {
    enum { SHIFT_VERSION = 8, SHIFT_SLOT = 16 };
    uint64_t from = (uint64_t)(origin + 1), sender = sender_of(packet);
    uint64_t of_sender = (uint64_t)kind | (uint64_t)ip_version(packet) << SHIFT_VERSION;
    uint64_t of_peer = (uint64_t)slot << SHIFT_SLOT;
    const struct {
        size_t bucket;
        unsigned per_second;
    } levels[N_ANSWER_LEVELS] = {
        {hash(limit, sender, of_sender | of_peer), ANSWERS_PER_SENDER_AND_PEER},
        {hash(limit, sender, of_sender), ANSWERS_PER_SENDER},
        {hash(limit, from, (uint64_t)kind | of_peer), ANSWERS_PER_ORIGIN_AND_PEER},
        {hash(limit, from, (uint64_t)kind), ANSWERS_PER_ORIGIN},
    };
    for (size_t i = 0; i < N_ANSWER_LEVELS; i++)
        if (!has_token(limit->full_at_ns[i][levels[i].bucket], now_ns, levels[i].per_second))
            return false;
    if (!token_take(&limit->all_full_at_ns[kind], now_ns, ANSWERS_PER_SECOND, ANSWERS_BURST))
        return false;
    for (size_t i = 0; i < N_ANSWER_LEVELS; i++)
        token_take(&limit->full_at_ns[i][levels[i].bucket], now_ns, levels[i].per_second,
                   levels[i].per_second);
    return true;
}
