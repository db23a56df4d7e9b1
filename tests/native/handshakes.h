/* handshakes: handshake messages as far as the data path looks at them: type, length and mac1. */
#ifndef HANDSHAKES_H
#define HANDSHAKES_H

#include "mac.h"
#include "seal.h"

enum { MACS = 32 };

/* BLAKE2s of 128 bits, keyed (RFC 7693). */
void handshake_mac(uint8_t mac[MAC_LENGTH], const uint8_t key[SEAL_KEY], const uint8_t *bytes,
                   size_t length);
/* A message of type 1, 2 or 3, whose content is `fill`, under that mac1 key (a cookie reply has
 * none). Returns its length. */
size_t handshake_make(uint8_t message[HANDSHAKE_BYTES_MAX], unsigned type, uint8_t fill,
                      const uint8_t key[SEAL_KEY]);

#endif
