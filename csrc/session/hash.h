/* hash: BLAKE2s (RFC 7693) and what WireGuard makes of it (whitepaper 5.4): HMAC (RFC 2104) and, as Kdf,
 * HKDF (RFC 5869). All that the library keeps of it is in secret memory.
 */
#ifndef FASTUN_SESSION_HASH_H
#define FASTUN_SESSION_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { HASH_SIZE = 32 };

/* One after another, as if they were one. */
struct hash_part {
    const void *bytes;
    size_t length;
};

/* Each returns 0 or -errno. The result may lie where a part does. */
int hash_make(const struct hash_part *parts, unsigned n_parts, uint8_t hash[HASH_SIZE]);
int hmac_make(const uint8_t key[HASH_SIZE], const struct hash_part *parts, unsigned n_parts,
              uint8_t hash[HASH_SIZE]);
/* Kdf_n: `n_keys` keys, one behind the other, of the chaining key and `material`. `keys` is apart from
 * both, and secret memory. */
int kdf_make(const uint8_t chaining_key[HASH_SIZE], const uint8_t *material, size_t length,
             unsigned n_keys, uint8_t *keys);

#endif
