#define _GNU_SOURCE
#include "session/aead.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "session/aead_library.h"
#include "session/cpu_features.h"

enum { NONCE_COUNTER = 4 };

/* -- the library ------------------------------------------------------------------------------- */

static const struct aead_library *library = &aead_gcrypt;
static int prepared; /* 0 or -errno */

/* Needed in any case: the MACs of handshakes and the cookies are its work. */
static void prepare(void) {
    prepared = aead_gcrypt.prepare();
}

static void prepare_fastest(void) {
    if (aead_ipsec_mb.prepare() == 0)
        library = &aead_ipsec_mb;
}

int aead_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, prepare);
    return prepared;
}

void aead_load_fastest(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, prepare_fastest);
}

const char *aead_library_name(void) {
    aead_load_fastest();
    return aead_init() == 0 ? library->name : "";
}

/* Which of them the library uses it finds out by itself. */
int aead_has_aes_instructions(void) {
    return cpu_has_aes();
}

/* -- keys -------------------------------------------------------------------------------------- */

struct aead_key *aead_key_new(enum aead aead, const uint8_t key[AEAD_KEY_SIZE]) {
    int error = aead_init();
    if (error == 0)
        return library->key_new(aead, key);
    errno = -error;
    return NULL;
}

void aead_key_free(struct aead_key *key) {
    if (key != NULL)
        key->library->key_free(key);
}

/* -- messages ---------------------------------------------------------------------------------- */

static void write_nonce(uint8_t nonce[AEAD_NONCE_SIZE], uint64_t counter) {
    memset(nonce, 0, NONCE_COUNTER);
    for (int i = 0; i < AEAD_NONCE_SIZE - NONCE_COUNTER; i++)
        nonce[NONCE_COUNTER + i] = (uint8_t)(counter >> 8 * i);
}

int seal_into(struct aead_key *key, uint64_t counter, const uint8_t *text, size_t length,
              uint8_t *sealed) {
    uint8_t nonce[AEAD_NONCE_SIZE];
    write_nonce(nonce, counter);
    int error = key->library->seal(key, nonce, text, length, sealed, sealed + length);
    if (error == 0)
        return (int)(length + AEAD_TAG_SIZE);
    explicit_bzero(sealed, length);
    return error;
}

int seal_in_place(struct aead_key *key, uint64_t counter, uint8_t *text, size_t length) {
    return seal_into(key, counter, text, length, text);
}

int open_into(struct aead_key *key, uint64_t counter, const uint8_t *sealed, size_t sealed_length,
              uint8_t *text) {
    uint8_t nonce[AEAD_NONCE_SIZE];
    if (sealed_length < AEAD_TAG_SIZE)
        return -EBADMSG;
    size_t length = sealed_length - AEAD_TAG_SIZE;
    write_nonce(nonce, counter);
    int error = key->library->open(key, nonce, sealed, length, text);
    if (error == 0)
        return (int)length;
    /* The text was deciphered before the tag was known to be wrong. */
    explicit_bzero(text, length);
    return error;
}
