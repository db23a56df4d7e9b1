/* handshakes: handshake messages as far as the data path looks at them: type, length and macs. */
#ifndef HANDSHAKES_H
#define HANDSHAKES_H

#include "inbound/cookie.h"
#include "fastun.h"

enum { INITIATION_LENGTH = 148, RESPONSE_LENGTH = 92 };

/* BLAKE2s of 128 bits, keyed (RFC 7693). */
void handshake_mac(uint8_t mac[MAC_LENGTH], const uint8_t *key, size_t key_length,
                   const uint8_t *bytes, size_t length);
/* A message of type 1, 2 or 3, whose content is `fill`, under that mac1 key (a cookie reply has
 * none). Returns its length. */
size_t handshake_make(uint8_t message[HANDSHAKE_BYTES_MAX], unsigned type, uint8_t fill,
                      const uint8_t key[MAC_KEY_MAX]);
/* Shows the cookie: mac2. */
void handshake_show(uint8_t *message, size_t length, const uint8_t cookie[COOKIE_LENGTH]);

#endif
