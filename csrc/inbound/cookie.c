#define _GNU_SOURCE
#include "inbound/cookie.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "packet/byteorder.h"
#include "packet/headers.h"
#include "session/session.h"
#include "shared/clock.h"

enum { PORT_LENGTH = 2 };

int cookie_maker_init(struct cookie_maker *maker, const uint8_t reply_key[AEAD_KEY_SIZE]) {
    static const uint8_t none[MAC_KEY_MAX];
    *maker = (struct cookie_maker){
        .secret = mac_key_new(none), /* until the first cookie: it expires at 0 */
        .cookie = mac_key_new(none),
        .reply_key = xchacha_key_new(reply_key),
    };
    bool is_whole = maker->secret != NULL && maker->cookie != NULL && maker->reply_key != NULL;
    return is_whole ? 0 : -errno;
}

void cookie_maker_free(struct cookie_maker *maker) {
    mac_key_free(maker->secret);
    mac_key_free(maker->cookie);
    xchacha_key_free(maker->reply_key);
    *maker = (struct cookie_maker){0};
}

/* -- cookies ----------------------------------------------------------------------------------- */

static int renew_secret(struct cookie_maker *maker, uint64_t now_ns) {
    uint8_t secret[MAC_KEY_MAX];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret)
        return -EIO;
    mac_key_change(maker->secret, secret, sizeof secret);
    explicit_bzero(secret, sizeof secret);
    maker->secret_expires_ns = now_ns + (uint64_t)COOKIE_SECRET_S * NS_PER_S;
    return 0;
}

int cookie_make(struct cookie_maker *maker, const struct udp_address *source, uint64_t now_ns,
                uint8_t cookie[COOKIE_LENGTH]) {
    uint8_t bound[IPV6_ADDRESS_SIZE + PORT_LENGTH];
    size_t length = source->family == UDP_ADDRESS_IPV4 ? IPV4_ADDRESS_SIZE : IPV6_ADDRESS_SIZE;
    int error = now_ns >= maker->secret_expires_ns ? renew_secret(maker, now_ns) : 0;
    if (error < 0)
        return error;
    memcpy(bound, source->address, length);
    be16_write(bound + length, source->port);
    return mac_make(maker->secret, bound, length + PORT_LENGTH, cookie);
}

bool mac2_is_valid(struct cookie_maker *maker, const uint8_t *message, size_t length,
                   const struct udp_address *source, uint64_t now_ns) {
    uint8_t cookie[COOKIE_LENGTH];
    size_t covered = length - MAC_LENGTH;
    if (cookie_make(maker, source, now_ns, cookie) < 0)
        return false;
    mac_key_change(maker->cookie, cookie, sizeof cookie);
    explicit_bzero(cookie, sizeof cookie);
    return mac_is_valid(maker->cookie, message, covered, message + covered);
}

/* -- replies ----------------------------------------------------------------------------------- */

struct reply {
    uint8_t type[4];
    uint8_t receiver[4];
    uint8_t nonce[XCHACHA_NONCE];
    uint8_t cookie[COOKIE_LENGTH + AEAD_TAG_SIZE];
};

_Static_assert(sizeof(struct reply) == COOKIE_REPLY_LENGTH, "as on the wire");

int cookie_reply(struct cookie_maker *maker, const uint8_t *message, size_t length,
                 const struct udp_address *source, uint64_t now_ns,
                 uint8_t reply[COOKIE_REPLY_LENGTH]) {
    struct reply *made = (struct reply *)(void *)reply;
    const uint8_t *sender = message + 4, *mac1 = message + length - MACS_LENGTH;
    le32_write(made->type, MESSAGE_COOKIE);
    memcpy(made->receiver, sender, sizeof made->receiver);
    if (getrandom(made->nonce, sizeof made->nonce, 0) != sizeof made->nonce)
        return -EIO;
    int error = cookie_make(maker, source, now_ns, made->cookie);
    if (error < 0)
        return error;
    return xchacha_seal(maker->reply_key, made->nonce, mac1, MAC_LENGTH, made->cookie,
                        COOKIE_LENGTH);
}
