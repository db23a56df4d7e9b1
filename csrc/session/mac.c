#define _GNU_SOURCE
#include "session/mac.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "session/aead.h"
#include "session/secret_memory.h"

struct mac_key {
    gcry_md_hd_t handle;
    size_t length;
    uint8_t key[MAC_KEY_MAX];
};

struct mac_key *mac_key_new(const uint8_t key[MAC_KEY_MAX]) {
    int error = aead_init();
    struct mac_key *made = error == 0 ? secret_memory_new(sizeof *made) : NULL;
    if (made != NULL && gcry_md_open(&made->handle, GCRY_MD_BLAKE2S_128, 0) == 0) {
        mac_key_change(made, key, MAC_KEY_MAX);
        return made;
    }
    secret_memory_free(made);
    errno = error < 0 ? -error : ENOMEM;
    return NULL;
}

void mac_key_free(struct mac_key *key) {
    if (key != NULL)
        gcry_md_close(key->handle);
    secret_memory_free(key);
}

void mac_key_change(struct mac_key *key, const uint8_t *bytes, size_t length) {
    memcpy(key->key, bytes, length);
    key->length = length;
}

int mac_make(struct mac_key *key, const uint8_t *bytes, size_t length, uint8_t mac[MAC_LENGTH]) {
    gcry_md_reset(key->handle); /* forgets the key as well */
    if (gcry_md_setkey(key->handle, key->key, key->length) != 0)
        return -EINVAL;
    gcry_md_write(key->handle, bytes, length);
    const uint8_t *made = gcry_md_read(key->handle, GCRY_MD_BLAKE2S_128);
    if (made == NULL)
        return -EINVAL;
    memcpy(mac, made, MAC_LENGTH);
    return 0;
}

bool mac_is_valid(struct mac_key *key, const uint8_t *bytes, size_t length,
                  const uint8_t mac[MAC_LENGTH]) {
    uint8_t expected[MAC_LENGTH], difference = 0;
    if (mac_make(key, bytes, length, expected) < 0)
        return false;
    for (int i = 0; i < MAC_LENGTH; i++)
        difference |= expected[i] ^ mac[i];
    return difference == 0;
}
