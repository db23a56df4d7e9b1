#define _GNU_SOURCE
#include "session/hash.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "session/aead.h"

static int digest(unsigned flags, const uint8_t *key, const struct hash_part *parts,
                  unsigned n_parts, uint8_t hash[HASH_SIZE]) {
    gcry_md_hd_t handle;
    int error = aead_init();
    if (error < 0)
        return error;
    if (gcry_md_open(&handle, GCRY_MD_BLAKE2S_256, flags) != 0)
        return -ENOMEM;
    bool is_keyed = key == NULL || gcry_md_setkey(handle, key, HASH_SIZE) == 0;
    for (unsigned i = 0; i < n_parts; i++)
        gcry_md_write(handle, parts[i].bytes, parts[i].length);
    const uint8_t *made = is_keyed ? gcry_md_read(handle, GCRY_MD_BLAKE2S_256) : NULL;
    if (made != NULL)
        memcpy(hash, made, HASH_SIZE);
    gcry_md_close(handle);
    return made != NULL ? 0 : -EINVAL;
}

int hash_make(const struct hash_part *parts, unsigned n_parts, uint8_t hash[HASH_SIZE]) {
    return digest(0, NULL, parts, n_parts, hash);
}

int hmac_make(const uint8_t key[HASH_SIZE], const struct hash_part *parts, unsigned n_parts,
              uint8_t hash[HASH_SIZE]) {
    return digest(GCRY_MD_FLAG_HMAC, key, parts, n_parts, hash);
}

int kdf_make(const uint8_t chaining_key[HASH_SIZE], const uint8_t *material, size_t length,
             unsigned n_keys, uint8_t *keys) {
    uint8_t pseudorandom_key[HASH_SIZE];
    const struct hash_part of_material = {material, length};
    int error = hmac_make(chaining_key, &of_material, 1, pseudorandom_key);
    for (unsigned i = 0; i < n_keys && error == 0; i++) {
        uint8_t number = (uint8_t)(i + 1);
        const struct hash_part parts[] = {
            {i == 0 ? keys : keys + (i - 1) * HASH_SIZE, i == 0 ? 0 : HASH_SIZE},
            {&number, 1},
        };
        error = hmac_make(pseudorandom_key, parts, 2, keys + i * HASH_SIZE);
    }
    explicit_bzero(pseudorandom_key, sizeof pseudorandom_key);
    return error;
}
