/* session_key: which key a cipher uses of a session's directional key (docs/protocol.md).
 *
 *     ChaCha20-Poly1305    the directional key itself, as in WireGuard
 *     AES-256-GCM          HKDF-Expand-BLAKE2s(directional key, "fastun v1 aes-256-gcm", 32)
 *
 * A further lane of a session on UDP has a directional key of its own, from which the ciphers' come as
 * from any: HKDF-Expand-BLAKE2s(directional key, "fastun v1 lane" and the lane's number in a byte, 32).
 */
#ifndef FASTUN_SESSION_SESSION_KEY_H
#define FASTUN_SESSION_SESSION_KEY_H

#include "session/key_region.h"

/* Returns 0 or -errno. `key`, the caller's to wipe, may be the directional key. */
int session_key_derive(const uint8_t directional[AEAD_KEY_SIZE], enum aead aead,
                       uint8_t key[AEAD_KEY_SIZE]);
/* The directional key of a session's lane, from 1; returns 0 or -errno. */
int session_key_of_lane(const uint8_t directional[AEAD_KEY_SIZE], uint8_t lane,
                        uint8_t key[AEAD_KEY_SIZE]);
/* The cipher's key of the key of that name; -ENOENT: it is gone. */
int session_key_of(const struct key_area *area, const struct key_name *name, enum aead aead,
                   uint8_t key[AEAD_KEY_SIZE]);

#endif
