/* Secrets that Python handles without ever having their bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "keys.h"
#include "session/secret_memory.h"
#include "session/session_key.h"

struct secret {
    uint8_t bytes[AEAD_KEY_SIZE];
};

struct secret *secret_new(const uint8_t bytes[AEAD_KEY_SIZE]) {
    struct secret *secret = secret_memory_new(sizeof *secret);
    if (secret != NULL)
        memcpy(secret->bytes, bytes, sizeof secret->bytes);
    return secret;
}

struct secret *secret_new_private(void) {
    struct secret *secret = secret_memory_new(sizeof *secret);
    if (secret == NULL)
        return NULL;
    if (getrandom(secret->bytes, sizeof secret->bytes, 0) != sizeof secret->bytes) {
        secret_memory_free(secret);
        errno = EIO;
        return NULL;
    }
    secret->bytes[0] &= 0xf8; /* RFC 7748 section 5 */
    secret->bytes[31] = (secret->bytes[31] & 0x7f) | 0x40;
    return secret;
}

struct secret *secret_of_lane(const struct secret *secret, uint8_t lane) {
    struct secret *made = secret_memory_new(sizeof *made);
    int error = made == NULL ? -errno : session_key_of_lane(secret->bytes, lane, made->bytes);
    if (error == 0)
        return made;
    secret_memory_free(made);
    errno = -error;
    return NULL;
}

void secret_free(struct secret *secret) {
    secret_memory_free(secret);
}

const uint8_t *secret_bytes(const struct secret *secret) {
    return secret->bytes;
}

int secret_is_equal(const struct secret *secret, const struct secret *other) {
    uint8_t difference = 0;
    for (size_t i = 0; i < sizeof secret->bytes; i++)
        difference |= secret->bytes[i] ^ other->bytes[i];
    return difference == 0;
}

/* Made for one message: the gateway seals a few a session. */
static struct aead_key *key_of(const struct secret *secret, enum aead aead) {
    uint8_t bytes[AEAD_KEY_SIZE];
    int error = session_key_derive(secret->bytes, aead, bytes);
    struct aead_key *key = error < 0 ? NULL : aead_key_new(aead, bytes);
    explicit_bzero(bytes, sizeof bytes);
    if (error < 0)
        errno = -error;
    return key;
}

int secret_seal(const struct secret *secret, enum aead aead, uint64_t counter, const uint8_t *text,
                size_t length, uint8_t *sealed) {
    struct aead_key *key = key_of(secret, aead);
    if (key == NULL)
        return -errno;
    int result = seal_into(key, counter, text, length, sealed);
    aead_key_free(key);
    return result;
}

int secret_open(const struct secret *secret, enum aead aead, uint64_t counter,
                const uint8_t *sealed, size_t length, uint8_t *text) {
    struct aead_key *key = key_of(secret, aead);
    if (key == NULL)
        return -errno;
    int result = open_into(key, counter, sealed, length, text);
    aead_key_free(key);
    return result;
}
