#define _GNU_SOURCE
#include "session/aead.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#include "session/aead_library.h"

enum { NONCE_COUNTER = 4 };

/* -- the library ------------------------------------------------------------------------------- */

static const struct seal_library *library;

int seal_init(void) {
    static int result;
    if (library == NULL) {
        /* Needed in any case: the MACs of handshakes and the cookies are its work. */
        result = seal_gcrypt.prepare();
        library = seal_ipsec_mb.prepare() == 0 ? &seal_ipsec_mb : &seal_gcrypt;
    }
    return result;
}

const char *seal_library_name(void) {
    return seal_init() == 0 ? library->name : "";
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

struct seal_key *seal_key_new(enum aead aead, const uint8_t key[SEAL_KEY]) {
    int error = seal_init();
    if (error == 0)
        return library->key_new(aead, key);
    errno = -error;
    return NULL;
}

void seal_key_free(struct seal_key *key) {
    if (key != NULL)
        key->library->key_free(key);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void write_nonce(uint8_t nonce[SEAL_NONCE], uint64_t counter) {
    memset(nonce, 0, NONCE_COUNTER);
    for (int i = 0; i < SEAL_NONCE - NONCE_COUNTER; i++)
        nonce[NONCE_COUNTER + i] = (uint8_t)(counter >> 8 * i);
}

int seal_in_place(struct seal_key *key, uint64_t counter, uint8_t *text, size_t length) {
    uint8_t nonce[SEAL_NONCE];
    write_nonce(nonce, counter);
    int error = key->library->seal(key, nonce, text, length, text + length);
    if (error == 0)
        return (int)(length + SEAL_TAG);
    explicit_bzero(text, length);
    return error;
}

int open_into(struct seal_key *key, uint64_t counter, const uint8_t *sealed, size_t sealed_length,
              uint8_t *text) {
    uint8_t nonce[SEAL_NONCE];
    if (sealed_length < SEAL_TAG)
        return -EBADMSG;
    size_t length = sealed_length - SEAL_TAG;
    write_nonce(nonce, counter);
    int error = key->library->open(key, nonce, sealed, length, text);
    if (error == 0)
        return (int)length;
    /* The text was deciphered before the tag was known to be wrong. */
    explicit_bzero(text, length);
    return error;
}
