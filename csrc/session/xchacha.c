#define _GNU_SOURCE
#include "session/xchacha.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "packet/byteorder.h"
#include "session/secret_memory.h"

enum {
    BLOCK = 64,
    WORD = 4,
    N_WORDS = 4, /* as many of a block's 16 words are constants, and as many counter and nonce */
    HCHACHA_NONCE = N_WORDS * WORD,
    NONCE = 12,
    NONCE_ZEROS = NONCE - (XCHACHA_NONCE - HCHACHA_NONCE),
};

struct xchacha_key {
    gcry_cipher_hd_t stream;  /* under the key */
    gcry_cipher_hd_t sealing; /* under the key of each message */
};

static int open_handles(struct xchacha_key *made, const uint8_t key[AEAD_KEY_SIZE]) {
    if (gcry_cipher_open(&made->stream, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_STREAM, 0) != 0 ||
        gcry_cipher_open(&made->sealing, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, 0) != 0 ||
        gcry_cipher_setkey(made->stream, key, AEAD_KEY_SIZE) != 0)
        return -ENOTSUP; /* a host in FIPS mode has no ChaCha20-Poly1305 */
    return 0;
}

struct xchacha_key *xchacha_key_new(const uint8_t key[AEAD_KEY_SIZE]) {
    int error = aead_init();
    struct xchacha_key *made = error == 0 ? secret_memory_new(sizeof *made) : NULL;
    if (made == NULL) {
        errno = error < 0 ? -error : errno;
        return NULL;
    }
    error = open_handles(made, key);
    if (error == 0)
        return made;
    xchacha_key_free(made);
    errno = -error;
    return NULL;
}

void xchacha_key_free(struct xchacha_key *key) {
    if (key != NULL) {
        gcry_cipher_close(key->stream);
        gcry_cipher_close(key->sealing);
    }
    secret_memory_free(key);
}

static void subtract(uint8_t *word, const uint8_t *added) {
    le32_write(word, le32_read(word) - le32_read(added));
}

/* The key of all messages whose nonce begins with these bytes. A block of ChaCha20 begins as
 * constants, key, counter and nonce; libgcrypt takes the last two as one value of 16 bytes. */
static int hchacha20(gcry_cipher_hd_t stream, const uint8_t nonce[HCHACHA_NONCE],
                     uint8_t subkey[AEAD_KEY_SIZE]) {
    static const uint8_t constants[] = "expand 32-byte k";
    uint8_t block[BLOCK] = {0};
    uint8_t *last = block + BLOCK - HCHACHA_NONCE;
    if (gcry_cipher_setiv(stream, nonce, HCHACHA_NONCE) != 0 ||
        gcry_cipher_encrypt(stream, block, sizeof block, NULL, 0) != 0)
        return -EINVAL;
    for (size_t at = 0; at < N_WORDS * WORD; at += WORD) {
        subtract(block + at, constants + at);
        subtract(last + at, nonce + at);
    }
    memcpy(subkey, block, HCHACHA_NONCE);
    memcpy(subkey + HCHACHA_NONCE, last, HCHACHA_NONCE);
    explicit_bzero(block, sizeof block);
    return 0;
}

static int seal_under(gcry_cipher_hd_t handle, const uint8_t subkey[AEAD_KEY_SIZE],
                      const uint8_t *nonce_end, const uint8_t *associated, size_t associated_length,
                      uint8_t *text, size_t length) {
    uint8_t nonce[NONCE] = {0};
    memcpy(nonce + NONCE_ZEROS, nonce_end, NONCE - NONCE_ZEROS);
    if (gcry_cipher_setkey(handle, subkey, AEAD_KEY_SIZE) == 0 &&
        gcry_cipher_setiv(handle, nonce, sizeof nonce) == 0 &&
        gcry_cipher_authenticate(handle, associated, associated_length) == 0 &&
        gcry_cipher_encrypt(handle, text, length, NULL, 0) == 0 &&
        gcry_cipher_gettag(handle, text + length, AEAD_TAG_SIZE) == 0)
        return 0;
    return -EINVAL;
}

int xchacha_seal(struct xchacha_key *key, const uint8_t nonce[XCHACHA_NONCE],
                 const uint8_t *associated, size_t associated_length, uint8_t *text,
                 size_t length) {
    uint8_t subkey[AEAD_KEY_SIZE];
    int error = hchacha20(key->stream, nonce, subkey);
    if (error == 0)
        error = seal_under(key->sealing, subkey, nonce + HCHACHA_NONCE, associated,
                           associated_length, text, length);
    explicit_bzero(subkey, sizeof subkey);
    if (error < 0)
        explicit_bzero(text, length);
    return error;
}
