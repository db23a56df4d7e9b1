#define _GNU_SOURCE
#include "session/session_key.h"

#include <errno.h>
#include <string.h>

#include "session/hash.h"

/* HKDF-Expand (RFC 5869) of one block: HMAC(key, info | 1). */
static const uint8_t first_block = 1;

int session_key_of_lane(const uint8_t directional[AEAD_KEY_SIZE], uint8_t lane,
                        uint8_t key[AEAD_KEY_SIZE]) {
    static const char label[] = "fastun v1 lane";
    const struct hash_part parts[] = {{label, sizeof label - 1}, {&lane, 1}, {&first_block, 1}};
    return hmac_make(directional, parts, 3, key);
}

int session_key_derive(const uint8_t directional[AEAD_KEY_SIZE], enum aead aead,
                       uint8_t key[AEAD_KEY_SIZE]) {
    static const char label[] = "fastun v1 aes-256-gcm";
    if (aead == AEAD_CHACHA20_POLY1305) {
        memmove(key, directional, AEAD_KEY_SIZE);
        return 0;
    }
    if (aead != AEAD_AES_256_GCM)
        return -EINVAL;
    const struct hash_part parts[] = {{label, sizeof label - 1}, {&first_block, 1}};
    return hmac_make(directional, parts, 2, key);
}

int session_key_of(const struct key_area *area, const struct key_name *name, enum aead aead,
                   uint8_t key[AEAD_KEY_SIZE]) {
    int error = area == NULL ? -EINVAL : key_area_read(area, name, key);
    return error < 0 ? error : session_key_derive(key, aead, key);
}
