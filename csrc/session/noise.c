/* Noise's symmetric state: chaining key, hash and the present key, all in secret memory. A key seals
 * once in the pattern used here, so its nonce is always 0 and is not kept. */
#define _GNU_SOURCE
#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "keys.h"
#include "session/aead.h"
#include "session/dh.h"
#include "session/hash.h"
#include "session/secret_memory.h"

enum { NONCE_SIZE = 12, N_KEYS_MAX = 3 };

/* The chaining key and what a Kdf makes of it lie one behind the other. */
struct noise {
    uint8_t hash[HASH_SIZE];
    uint8_t chaining_key[HASH_SIZE];
    uint8_t key[HASH_SIZE];
};

static struct noise *copy_of(const struct noise *noise) {
    struct noise *made = secret_memory_new(sizeof *made);
    if (made != NULL)
        *made = *noise;
    return made;
}

/* `made`, or NULL with errno set. */
static struct noise *made_or_freed(struct noise *made, int error) {
    if (error == 0)
        return made;
    secret_memory_free(made);
    errno = -error;
    return NULL;
}

void noise_free(struct noise *noise) {
    secret_memory_free(noise);
}

void noise_hash(const struct noise *noise, uint8_t hash[HASH_SIZE]) {
    memcpy(hash, noise->hash, HASH_SIZE);
}

struct noise *noise_new(const uint8_t *protocol_name, size_t length) {
    struct noise *made = secret_memory_new(sizeof *made);
    if (made == NULL)
        return NULL;
    const struct hash_part name = {protocol_name, length};
    int error = hash_make(&name, 1, made->hash);
    memcpy(made->chaining_key, made->hash, HASH_SIZE);
    return made_or_freed(made, error);
}

/* -- mixing ------------------------------------------------------------------------------------ */

static int mix_hash(struct noise *noise, const void *data, size_t length) {
    const struct hash_part parts[] = {{noise->hash, HASH_SIZE}, {data, length}};
    return hash_make(parts, 2, noise->hash);
}

/* MixKey, and where there is `tau`, MixKeyAndHash. */
static int mix_key(struct noise *noise, const uint8_t *material, size_t length, bool has_tau) {
    uint8_t *keys = secret_memory_new(N_KEYS_MAX * HASH_SIZE);
    if (keys == NULL)
        return -errno;
    unsigned n_keys = has_tau ? 3 : 2;
    int error = kdf_make(noise->chaining_key, material, length, n_keys, keys);
    if (error == 0) {
        memcpy(noise->chaining_key, keys, HASH_SIZE);
        memcpy(noise->key, keys + (n_keys - 1) * HASH_SIZE, HASH_SIZE);
        error = has_tau ? mix_hash(noise, keys + HASH_SIZE, HASH_SIZE) : 0;
    }
    secret_memory_free(keys);
    return error;
}

struct noise *noise_mix_hash(const struct noise *noise, const uint8_t *data, size_t length) {
    struct noise *made = copy_of(noise);
    return made == NULL ? NULL : made_or_freed(made, mix_hash(made, data, length));
}

struct noise *noise_mix_key(const struct noise *noise, const uint8_t *material, size_t length) {
    struct noise *made = copy_of(noise);
    return made == NULL ? NULL : made_or_freed(made, mix_key(made, material, length, false));
}

struct noise *noise_mix_key_and_hash(const struct noise *noise,
                                     const uint8_t preshared_key[HASH_SIZE]) {
    struct noise *made = copy_of(noise);
    return made == NULL ? NULL : made_or_freed(made, mix_key(made, preshared_key, HASH_SIZE, true));
}

struct noise *noise_mix_dh(const struct noise *noise, const uint8_t private_key[DH_SIZE],
                           const uint8_t public_key[DH_SIZE]) {
    struct noise *made = copy_of(noise);
    uint8_t *shared = made == NULL ? NULL : secret_memory_new(DH_SIZE);
    if (shared == NULL) {
        secret_memory_free(made);
        return NULL;
    }
    int error = dh_make(private_key, public_key, shared);
    if (error == 0)
        error = mix_key(made, shared, DH_SIZE, false);
    secret_memory_free(shared);
    return made_or_freed(made, error);
}

/* -- sealing ----------------------------------------------------------------------------------- */

/* Keyed, with nonce 0 and the hash as associated data. NULL: the library has no ChaCha20-Poly1305. */
static gcry_cipher_hd_t open_cipher(const struct noise *noise) {
    static const uint8_t nonce[NONCE_SIZE];
    gcry_cipher_hd_t cipher;
    if (aead_init() < 0 ||
        gcry_cipher_open(&cipher, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, 0) != 0)
        return NULL;
    if (gcry_cipher_setkey(cipher, noise->key, HASH_SIZE) == 0 &&
        gcry_cipher_setiv(cipher, nonce, sizeof nonce) == 0 &&
        gcry_cipher_authenticate(cipher, noise->hash, HASH_SIZE) == 0)
        return cipher;
    gcry_cipher_close(cipher);
    return NULL;
}

struct noise *noise_encrypt(const struct noise *noise, const uint8_t *text, size_t length,
                            uint8_t *sealed) {
    struct noise *made = copy_of(noise);
    gcry_cipher_hd_t cipher = made == NULL ? NULL : open_cipher(noise);
    bool is_sealed = cipher != NULL &&
                     gcry_cipher_encrypt(cipher, sealed, length, text, length) == 0 &&
                     gcry_cipher_gettag(cipher, sealed + length, AEAD_TAG_SIZE) == 0;
    gcry_cipher_close(cipher);
    if (made == NULL)
        return NULL;
    return made_or_freed(made,
                         is_sealed ? mix_hash(made, sealed, length + AEAD_TAG_SIZE) : -ENOTSUP);
}

struct noise *noise_decrypt(const struct noise *noise, const uint8_t *sealed, size_t length,
                            uint8_t *text) {
    if (length < AEAD_TAG_SIZE) {
        errno = EBADMSG;
        return NULL;
    }
    struct noise *made = copy_of(noise);
    gcry_cipher_hd_t cipher = made == NULL ? NULL : open_cipher(noise);
    size_t text_length = length - AEAD_TAG_SIZE;
    int error = cipher == NULL ? -ENOTSUP : 0;
    if (error == 0 && (gcry_cipher_decrypt(cipher, text, text_length, sealed, text_length) != 0 ||
                       gcry_cipher_checktag(cipher, sealed + text_length, AEAD_TAG_SIZE) != 0)) {
        explicit_bzero(text, text_length);
        error = -EBADMSG;
    }
    gcry_cipher_close(cipher);
    if (made == NULL)
        return NULL;
    return made_or_freed(made, error == 0 ? mix_hash(made, sealed, length) : error);
}

/* -- the end ----------------------------------------------------------------------------------- */

struct secret *noise_split(const struct noise *noise, unsigned direction) {
    uint8_t *keys = direction > 1 ? NULL : secret_memory_new(2 * HASH_SIZE);
    if (keys == NULL)
        return NULL;
    int error = kdf_make(noise->chaining_key, (const uint8_t *)"", 0, 2, keys);
    struct secret *made = error == 0 ? secret_new(keys + direction * HASH_SIZE) : NULL;
    secret_memory_free(keys);
    if (error < 0)
        errno = -error;
    return made;
}
