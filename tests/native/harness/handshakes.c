#define _GNU_SOURCE
#include "handshakes.h"

#include <gcrypt.h>
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "session/session.h"

void handshake_mac(uint8_t mac[MAC_LENGTH], const uint8_t *key, size_t key_length,
                   const uint8_t *bytes, size_t length) {
    static gcry_md_hd_t handle; /* opened once: each costs five system calls for memory to lock */
    if (handle == NULL) {
        CHECK_EQUAL(aead_init(), 0);
        CHECK_EQUAL(gcry_md_open(&handle, GCRY_MD_BLAKE2S_128, 0), 0);
    }
    gcry_md_reset(handle); /* forgets the key as well */
    CHECK_EQUAL(gcry_md_setkey(handle, key, key_length), 0);
    gcry_md_write(handle, bytes, length);
    memcpy(mac, gcry_md_read(handle, GCRY_MD_BLAKE2S_128), MAC_LENGTH);
}

size_t handshake_make(uint8_t message[HANDSHAKE_BYTES_MAX], unsigned type, uint8_t fill,
                      const uint8_t key[MAC_KEY_MAX]) {
    const size_t lengths[] = {[MESSAGE_INITIATION] = INITIATION_LENGTH,
                              [MESSAGE_RESPONSE] = RESPONSE_LENGTH,
                              [MESSAGE_COOKIE] = COOKIE_REPLY_LENGTH};
    size_t length = lengths[type], covered = length - MACS_LENGTH;
    memset(message, fill, length);
    le32_write(message, type);
    if (type != MESSAGE_COOKIE)
        handshake_mac(message + covered, key, MAC_KEY_MAX, message, covered);
    return length;
}

void handshake_show(uint8_t *message, size_t length, const uint8_t cookie[COOKIE_LENGTH]) {
    size_t covered = length - MAC_LENGTH;
    handshake_mac(message + covered, cookie, COOKIE_LENGTH, message, covered);
}
