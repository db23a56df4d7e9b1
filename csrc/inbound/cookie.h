/* cookie: how a sender of handshake messages proves that it receives where it sends from.
 *
 *     cookie = Mac(secret, source address || source port)            whitepaper 5.4.7
 *     reply  = type u32 (3), receiver u32, nonce[24], Xaead(cookie key, nonce, cookie, mac1)
 *     mac2   = Mac(cookie, the message up to mac2)                    whitepaper 5.4.4
 *
 * The secret is ours alone and never leaves this process. So the cookie of an address need not be
 * kept: it is made again when a sender shows it. A reply is shorter than what it answers, and only
 * a host that has seen that message can open it.
 *
 * Belongs to the link-reader alone. Nothing is allocated but by cookie_maker_init.
 */
#ifndef FASTUN_INBOUND_COOKIE_H
#define FASTUN_INBOUND_COOKIE_H

#include "host/udp_address.h"
#include "session/mac.h"
#include "session/xchacha.h"

enum {
    MACS_LENGTH = 2 * MAC_LENGTH, /* mac1 and mac2 are the end of messages 1 and 2 */
    COOKIE_LENGTH = MAC_LENGTH,
    COOKIE_REPLY_LENGTH = 64,
    /* As long as the other side keeps its cookie. A sender that got one shortly before gets another. */
    COOKIE_SECRET_S = 120,
};

struct cookie_maker {
    struct mac_key *secret; /* random */
    uint64_t secret_expires_ns;
    struct mac_key *cookie; /* the one that is looked at */
    struct xchacha_key *reply_key;
};

/* `reply_key` is Hash("cookie--" || our public key). Returns 0 or -errno; in either case
 * cookie_maker_free may be called, as for a maker of zeros. */
int cookie_maker_init(struct cookie_maker *maker, const uint8_t reply_key[AEAD_KEY_SIZE]);
void cookie_maker_free(struct cookie_maker *maker);

/* Returns 0 or -errno. `now_ns` is CLOCK_MONOTONIC here and below. */
int cookie_make(struct cookie_maker *maker, const struct udp_address *source, uint64_t now_ns,
                uint8_t cookie[COOKIE_LENGTH]);
/* Answers a message 1 or 2. Returns 0 or -errno. */
int cookie_reply(struct cookie_maker *maker, const uint8_t *message, size_t length,
                 const struct udp_address *source, uint64_t now_ns,
                 uint8_t reply[COOKIE_REPLY_LENGTH]);
/* Whether the message's mac2 proves that its sender was sent the source's present cookie. */
bool mac2_is_valid(struct cookie_maker *maker, const uint8_t *message, size_t length,
                   const struct udp_address *source, uint64_t now_ns);

#endif
