/* aead: authenticated encryption of one message.
 *
 * The nonce is 4 zero bytes and the message's counter as u64 little-endian; there is no additional
 * data (WireGuard whitepaper 5.4.6). A sealed message is as long as its text and the tag. A key
 * seals or opens, not both, and no counter may be used twice with it: the caller counts.
 *
 * The library behind it is libgcrypt, or once aead_load_fastest() was called the fastest here of
 * those in aead_library.h, by measurement (bench/micro/README.md). All that it keeps is in secret memory.
 *
 * A key may be used by one thread at a time.
 */
#ifndef FASTUN_SESSION_AEAD_H
#define FASTUN_SESSION_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastun.h"

enum { AEAD_KEY_SIZE = 32, AEAD_TAG_SIZE = 16 };

struct aead_key;

/* Prepares libgcrypt, once a process; later calls return what the first did. Any thread. -EBUSY
 * when another part of the process uses libgcrypt already: its memory is then not ours to choose. */
int aead_init(void);

/* NULL with errno set on failure. `key` is the caller's to wipe. */
struct aead_key *aead_key_new(enum aead aead, const uint8_t key[AEAD_KEY_SIZE]);
/* Wiped first. NULL is allowed. */
void aead_key_free(struct aead_key *key);

/* Encrypts `text` in place and writes AEAD_TAG_SIZE bytes behind it. Returns the sealed
 * length; -errno on failure, and `text` is then wiped. */
int seal_in_place(struct aead_key *key, uint64_t counter, uint8_t *text, size_t length);
/* The same, into `sealed`, which is apart from `text`; that stays as it is. */
int seal_into(struct aead_key *key, uint64_t counter, const uint8_t *text, size_t length,
              uint8_t *sealed);
/* Returns the text's length, which is AEAD_TAG_SIZE less than the sealed one; -EBADMSG when the
 * message is not what was sealed, and `text` then holds zeros. `text` is apart from `sealed` or
 * equal to it; no more than the text's length is ever written there. */
int open_into(struct aead_key *key, uint64_t counter, const uint8_t *sealed, size_t sealed_length,
              uint8_t *text);

#endif
