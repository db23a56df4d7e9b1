/* aead_library: what a cryptographic library has to do for aead.c, and those that do it.
 *
 * Each of them gives the same bytes. Which is used is decided by measurement
 * (bench/micro/seal_libraries.c; ARCHITECTURE, decisions).
 */
#ifndef FASTUN_SESSION_AEAD_LIBRARY_H
#define FASTUN_SESSION_AEAD_LIBRARY_H

#include "session/aead.h"

enum { SEAL_NONCE = 12 };

/* What every library's key begins with; the whole stands in secret memory. */
struct seal_key {
    const struct seal_library *library;
};

struct seal_library {
    const char *name;
    /* Once a process. -ENOTSUP: it is not here, or on this processor it is not the fast one. */
    int (*prepare)(void);
    /* NULL with errno set on failure. */
    struct seal_key *(*key_new)(enum aead aead, const uint8_t key[SEAL_KEY]);
    void (*key_free)(struct seal_key *key);
    /* Encrypts `text` in place; -EINVAL on failure. */
    int (*seal)(struct seal_key *key, const uint8_t nonce[SEAL_NONCE], uint8_t *text, size_t length,
                uint8_t tag[SEAL_TAG]);
    /* Decrypts `length` bytes, behind which the tag stands; -EBADMSG when that is not theirs, and
     * what was written to `text` is then of no use and not yet wiped. */
    int (*open)(struct seal_key *key, const uint8_t nonce[SEAL_NONCE], const uint8_t *sealed,
                size_t length, uint8_t *text);
};

/* The one that is always there. */
extern const struct seal_library seal_gcrypt;
/* Intel's, for processors with AVX-512. */
extern const struct seal_library seal_ipsec_mb;

#endif
