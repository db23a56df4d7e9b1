/* xchacha: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), for messages as rare and short as cookie
 * replies.
 *
 * libgcrypt has only ChaCha20's own nonce of 12 bytes. The longer one is a ChaCha20-Poly1305 under
 * a key of its own for each first 16 bytes of the nonce, and that key, HChaCha20's, is what
 * ChaCha20 has computed before it adds its first state to make a block. So a block is taken, and
 * what was added is subtracted again; there is no cipher here.
 *
 * A key may be used by one thread at a time. Nothing is allocated but when it is made.
 */
#ifndef FASTUN_SESSION_XCHACHA_H
#define FASTUN_SESSION_XCHACHA_H

#include <stddef.h>
#include <stdint.h>

#include "session/aead.h"

enum { XCHACHA_NONCE = 24 };

struct xchacha_key;

/* NULL with errno set on failure. `key` is the caller's to wipe. */
struct xchacha_key *xchacha_key_new(const uint8_t key[AEAD_KEY_SIZE]);
/* Wiped first. NULL is allowed. */
void xchacha_key_free(struct xchacha_key *key);

/* Encrypts `text` in place and writes AEAD_TAG_SIZE bytes behind it; they authenticate
 * `associated` too. Returns 0; -errno on failure, and `text` is then wiped. No nonce may be used
 * twice. */
int xchacha_seal(struct xchacha_key *key, const uint8_t nonce[XCHACHA_NONCE],
                 const uint8_t *associated, size_t associated_length, uint8_t *text, size_t length);

#endif
