/* Sealing by libgcrypt. Its handles are in secret memory by themselves: it allocates nowhere
 * else. */
#define _GNU_SOURCE
#include <errno.h>
#include <gcrypt.h>

#include "session/aead_library.h"
#include "session/secret_memory.h"

/* The first with X25519 by its bytes (gcry_ecc_mul_point, session/dh.c). Debian 12 has 1.10, RHEL 9
 * and Ubuntu 22.04 have 1.9 or later. */
#define GCRYPT_VERSION_MIN "1.9.0"

struct gcrypt_key {
    struct aead_key base;
    gcry_cipher_hd_t handle;
};

static gcry_cipher_hd_t handle_of(struct aead_key *key) {
    return ((struct gcrypt_key *)(void *)key)->handle;
}

/* -- the library ------------------------------------------------------------------------------- */

static int is_secret(const void *memory) {
    (void)memory;
    return 1;
}

static int prepare(void) {
#ifdef FASTUN_BESIDE_ANOTHER /* a test's second copy of this code in a process: the first has done it */
    if (gcry_control(GCRYCTL_ANY_INITIALIZATION_P) != 0)
        return 0;
#endif
    /* What is allocated already would be freed by the wrong function. */
    if (gcry_control(GCRYCTL_ANY_INITIALIZATION_P) != 0)
        return -EBUSY;
    gcry_set_allocation_handler(secret_memory_new, secret_memory_new, is_secret,
                                secret_memory_resize, secret_memory_free);
    if (gcry_check_version(GCRYPT_VERSION_MIN) == NULL)
        return -ENOTSUP;
    /* Its own pool of locked memory: small, in core dumps, and no longer needed. */
    gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return 0;
}

/* -- keys -------------------------------------------------------------------------------------- */

static void key_free(struct aead_key *key) {
    gcry_cipher_close(handle_of(key));
    secret_memory_free(key);
}

static gcry_error_t open_handle(gcry_cipher_hd_t *handle, enum aead aead) {
    if (aead == AEAD_AES_256_GCM)
        return gcry_cipher_open(handle, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_GCM, 0);
    return gcry_cipher_open(handle, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, 0);
}

static struct aead_key *key_new(enum aead aead, const uint8_t key[AEAD_KEY_SIZE]) {
    struct gcrypt_key *made = secret_memory_new(sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (struct gcrypt_key){.base.library = &aead_gcrypt};
    if (open_handle(&made->handle, aead) == 0 &&
        gcry_cipher_setkey(made->handle, key, AEAD_KEY_SIZE) == 0)
        return &made->base;
    key_free(&made->base);
    errno = ENOTSUP; /* a host in FIPS mode has no ChaCha20-Poly1305 */
    return NULL;
}

/* -- messages ---------------------------------------------------------------------------------- */

static int seal(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *text,
                size_t length, uint8_t *sealed, uint8_t tag[AEAD_TAG_SIZE]) {
    gcry_cipher_hd_t handle = handle_of(key);
    bool is_in_place = sealed == text;
    bool is_sealed = gcry_cipher_setiv(handle, nonce, AEAD_NONCE_SIZE) == 0 &&
                     gcry_cipher_encrypt(handle, sealed, length, is_in_place ? NULL : text,
                                         is_in_place ? 0 : length) == 0 &&
                     gcry_cipher_gettag(handle, tag, AEAD_TAG_SIZE) == 0;
    return is_sealed ? 0 : -EINVAL;
}

static int open(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *sealed,
                size_t length, uint8_t *text) {
    gcry_cipher_hd_t handle = handle_of(key);
    bool is_opened = gcry_cipher_setiv(handle, nonce, AEAD_NONCE_SIZE) == 0 &&
                     gcry_cipher_decrypt(handle, text, length, sealed, length) == 0 &&
                     gcry_cipher_checktag(handle, sealed + length, AEAD_TAG_SIZE) == 0;
    return is_opened ? 0 : -EBADMSG;
}

const struct aead_library aead_gcrypt = {"libgcrypt", prepare, key_new, key_free, seal, open};
