/* struct seal_key is libgcrypt's cipher handle under our name: one allocation, no way round it. */
#define _GNU_SOURCE
#include "seal.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdbool.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#include "secret_memory.h"

/* The first with ChaCha20-Poly1305 is 1.7; 1.8 is the oldest that any distribution still carries.
 */
#define GCRYPT_VERSION_MIN "1.8.0"

enum { NONCE = 12, NONCE_COUNTER = 4 };

/* -- the library ------------------------------------------------------------------------------- */

static int is_secret(const void *memory) {
    (void)memory;
    return 1;
}

static int prepare(void) {
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

int seal_init(void) {
    static bool prepared;
    static int result;
    if (!prepared)
        result = prepare();
    prepared = true;
    return result;
}

/* Which of them the library uses it finds out by itself. */
int seal_has_aes_instructions(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    unsigned long wanted = HWCAP_AES | HWCAP_PMULL;
    return (getauxval(AT_HWCAP) & wanted) == wanted;
#else
    return 0;
#endif
}

/* -- keys -------------------------------------------------------------------------------------- */

static gcry_cipher_hd_t handle_of(struct seal_key *key) {
    return (gcry_cipher_hd_t)(void *)key;
}

static gcry_error_t open_handle(gcry_cipher_hd_t *handle, enum aead aead) {
    if (aead == AEAD_AES_256_GCM)
        return gcry_cipher_open(handle, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_GCM, 0);
    return gcry_cipher_open(handle, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, 0);
}

struct seal_key *seal_key_new(enum aead aead, const uint8_t key[SEAL_KEY]) {
    gcry_cipher_hd_t handle = NULL;
    int error = seal_init();
    if (error == 0 &&
        (open_handle(&handle, aead) != 0 || gcry_cipher_setkey(handle, key, SEAL_KEY) != 0))
        error = -ENOTSUP; /* a host in FIPS mode has no ChaCha20-Poly1305 */
    if (error == 0)
        return (struct seal_key *)(void *)handle;
    gcry_cipher_close(handle);
    errno = -error;
    return NULL;
}

void seal_key_free(struct seal_key *key) {
    gcry_cipher_close(handle_of(key));
}

/* -- messages ---------------------------------------------------------------------------------- */

static gcry_error_t set_nonce(gcry_cipher_hd_t handle, uint64_t counter) {
    uint8_t nonce[NONCE] = {0};
    for (int i = 0; i < NONCE - NONCE_COUNTER; i++)
        nonce[NONCE_COUNTER + i] = (uint8_t)(counter >> 8 * i);
    return gcry_cipher_setiv(handle, nonce, NONCE);
}

int seal_in_place(struct seal_key *key, uint64_t counter, uint8_t *text, size_t length) {
    gcry_cipher_hd_t handle = handle_of(key);
    if (set_nonce(handle, counter) == 0 &&
        gcry_cipher_encrypt(handle, text, length, NULL, 0) == 0 &&
        gcry_cipher_gettag(handle, text + length, SEAL_TAG) == 0)
        return (int)(length + SEAL_TAG);
    explicit_bzero(text, length);
    return -EINVAL;
}

int open_into(struct seal_key *key, uint64_t counter, const uint8_t *sealed, size_t sealed_length,
              uint8_t *text) {
    gcry_cipher_hd_t handle = handle_of(key);
    if (sealed_length < SEAL_TAG)
        return -EBADMSG;
    size_t length = sealed_length - SEAL_TAG;
    if (set_nonce(handle, counter) == 0 &&
        gcry_cipher_decrypt(handle, text, length, sealed, length) == 0 &&
        gcry_cipher_checktag(handle, sealed + length, SEAL_TAG) == 0)
        return (int)length;
    /* The text was deciphered before the tag was known to be wrong. */
    explicit_bzero(text, length);
    return -EBADMSG;
}
