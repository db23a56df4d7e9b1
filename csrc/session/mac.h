/* mac: keyed BLAKE2s of 128 bits (RFC 7693), as in mac1, mac2 and cookies (whitepaper 5.4).
 *
 * The key is in secret memory, and so does what the library derives from it. Nothing is
 * allocated but when a key is made. A key may be used by one thread at a time.
 */
#ifndef FASTUN_SESSION_MAC_H
#define FASTUN_SESSION_MAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAC_KEY_MAX = 32, MAC_LENGTH = 16 };

struct mac_key;

/* A key of MAC_KEY_MAX bytes, the caller's to wipe. NULL with errno set on failure. */
struct mac_key *mac_key_new(const uint8_t key[MAC_KEY_MAX]);
/* Wiped first. NULL is allowed. */
void mac_key_free(struct mac_key *key);
/* Another key in its place: 1 to MAC_KEY_MAX bytes. */
void mac_key_change(struct mac_key *key, const uint8_t *bytes, size_t length);

/* Returns 0 or -errno, and `mac` is then untouched. */
int mac_make(struct mac_key *key, const uint8_t *bytes, size_t length, uint8_t mac[MAC_LENGTH]);
/* Whether `mac` is that of the bytes, in constant time. */
bool mac_is_valid(struct mac_key *key, const uint8_t *bytes, size_t length,
                  const uint8_t mac[MAC_LENGTH]);

#endif
