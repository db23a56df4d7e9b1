/* aead_library: what a cryptographic library has to do for aead.c, and those that do it.
 *
 * Each of them gives the same bytes. Which is used is decided by measurement
 * (bench/micro/seal_libraries.c; ARCHITECTURE, decisions).
 */
#ifndef FASTUN_SESSION_AEAD_LIBRARY_H
#define FASTUN_SESSION_AEAD_LIBRARY_H

#include "session/aead.h"

enum { AEAD_NONCE_SIZE = 12 };

/* What every library's key begins with; the whole is in secret memory. */
struct aead_key {
    const struct aead_library *library;
};

struct aead_library {
    const char *name;
    /* Once a process. -ENOTSUP: it is not here, or on this processor it is not the fast one. */
    int (*prepare)(void);
    /* NULL with errno set on failure. */
    struct aead_key *(*key_new)(enum aead aead, const uint8_t key[AEAD_KEY_SIZE]);
    void (*key_free)(struct aead_key *key);
    /* Encrypts `text` into `sealed`, which is `text` or apart from it; -EINVAL on failure. */
    int (*seal)(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *text,
                size_t length, uint8_t *sealed, uint8_t tag[AEAD_TAG_SIZE]);
    /* Decrypts `length` bytes, followed by the tag; -EBADMSG when that is not theirs, and
     * what was written to `text` is then of no use and not yet wiped. */
    int (*open)(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *sealed,
                size_t length, uint8_t *text);
};

/* The one that is always there. */
extern const struct aead_library aead_gcrypt;
/* Intel's, for processors with AVX-512. */
extern const struct aead_library aead_ipsec_mb;

#endif
