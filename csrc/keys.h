/* keys: the keys of sessions, a part of fastun.h by its rules. csrc/session/key_region.h says how
 * gateway and workers share them.
 */
#ifndef FASTUN_KEYS_H
#define FASTUN_KEYS_H

#include "counters.h"
#include "fastun.h"

/* -- secrets ----------------------------------------------------------------------------------- */

/* 32 bytes in secret memory (csrc/session/secret_memory.h): a private key of X25519, or the key of one
 * direction of a session. Python holds the address. */
struct secret;

/* From now on this process's secret memory is memfd_secret's, where it is small pieces. Before the
 * process is confined. -errno: the kernel has none. */
int secret_memory_hide(void);

struct secret *secret_new(const uint8_t bytes[32]);
/* A private key of X25519, by the kernel's random numbers. */
struct secret *secret_new_private(void);
/* Of the key of a session's direction that of its lane of this number, from 1. */
struct secret *secret_of_lane(const struct secret *secret, uint8_t lane);
/* Wipes. */
void secret_free(struct secret *secret);
const uint8_t *secret_bytes(const struct secret *secret);
/* In constant time. */
int secret_is_equal(const struct secret *secret, const struct secret *other);

/* The key of a direction: seals a data message's content, into `length` and 16 bytes, and opens it,
 * into 16 less than `length`. No counter may seal twice. Each returns the length; -EBADMSG: it does
 * not open. */
int secret_seal(const struct secret *secret, enum aead aead, uint64_t counter, const uint8_t *text,
                size_t length, uint8_t *sealed);
int secret_open(const struct secret *secret, enum aead aead, uint64_t counter,
                const uint8_t *sealed, size_t length, uint8_t *text);

/* X25519 (RFC 7748) by a function `int (*)(uint8_t *shared, const uint8_t *private, const uint8_t
 * *public)` that returns 0; 0: by libgcrypt's, which takes five times as long as libsodium's. */
void dh_use(uintptr_t function);
int dh_public_key(const uint8_t private_key[32], uint8_t public_key[32]);

/* -- a handshake under way --------------------------------------------------------------------- */

/* Noise's symmetric state (Noise 5.2) in secret memory. Each step makes another one of it and leaves
 * it as it was, so that a message that is refused half way changes nothing. */
struct noise;

/* InitializeSymmetric, for a name of more than 32 bytes. */
struct noise *noise_new(const uint8_t *protocol_name, size_t length);
void noise_free(struct noise *noise);
/* What both sides have seen; not secret. */
void noise_hash(const struct noise *noise, uint8_t hash[32]);
struct noise *noise_mix_hash(const struct noise *noise, const uint8_t *data, size_t length);
struct noise *noise_mix_key(const struct noise *noise, const uint8_t *material, size_t length);
/* MixKey of the X25519 of both, which leaves no copy. EDOM: it is zero, the point is of low order. */
struct noise *noise_mix_dh(const struct noise *noise, const uint8_t private_key[32],
                           const uint8_t public_key[32]);
struct noise *noise_mix_key_and_hash(const struct noise *noise, const uint8_t preshared_key[32]);
/* `sealed` is 16 bytes longer than `text`, and `text` 16 shorter. EBADMSG: it does not open. */
struct noise *noise_encrypt(const struct noise *noise, const uint8_t *text, size_t length,
                            uint8_t *sealed);
struct noise *noise_decrypt(const struct noise *noise, const uint8_t *sealed, size_t length,
                            uint8_t *text);
/* The keys of a session: 0 from initiator to responder, 1 the other way. */
struct secret *noise_split(const struct noise *noise, unsigned direction);

/* -- the region -------------------------------------------------------------------------------- */

/* Which key of a region. */
struct key_name {
    uint32_t place;
    uint64_t generation; /* from 1 */
};

/* The gateway's end: both areas, written here only. `wants_secret`: by memfd_secret where the kernel
 * has it; what it answered is key_region_secret_errno(). */
struct key_region *key_region_create(int wants_secret);
/* Wipes all keys. */
void key_region_free(struct key_region *region);
/* The descriptor of the area of a role (stats_role_name), to be handed to that worker; -1: the role
 * has no keys. It stays the region's. */
int key_region_fd(struct key_region *region, unsigned role);
/* Whether the memory is memfd_secret's, and why not: 0 where it was not wanted. */
int key_region_is_secret(struct key_region *region);
int key_region_secret_errno(struct key_region *region);

/* A session's keys get a place. -ENOSPC: there is none. */
int key_region_put(struct key_region *region, const uint8_t send[32], const uint8_t receive[32],
                   struct key_name *name);
/* The keys are gone, in both areas; out of date: nothing happens. */
void key_region_wipe(struct key_region *region, const struct key_name *name);
unsigned key_region_n_places(void);
/* How many places are taken. */
unsigned key_region_n_used(struct key_region *region);

/* A worker's end, read-only, before it is confined; the descriptor is no longer needed. */
struct key_area *key_area_attach(int fd);
void key_area_detach(struct key_area *area);

/* tun-reader: seal for the peer from now on, until CLOCK_BOOTTIME is expires_ns, under
 * counters of this source. -ENOENT: the key is gone. */
int loop_set_sending_key(struct loop *loop, const struct key_area *area,
                         const struct key_name *name, unsigned slot, enum aead aead,
                         uint32_t receiver_index, const struct counter_source *source,
                         uint64_t expires_ns);
void loop_forget_sending_key(struct loop *loop, unsigned slot);
/* link-reader: open what names `index`, until expires_ns; counters under `counter` are used up
 * already. Called again for the same index, it adds another cipher to the session. */
int loop_add_receiving_key(struct loop *loop, const struct key_area *area,
                           const struct key_name *name, unsigned slot, enum aead aead,
                           uint32_t index, uint64_t counter, uint64_t expires_ns);
/* link-reader: what names `index` was opened by a predecessor. The keys that are added for it open
 * what is above its mark. -ENOENT: it has left no mark, so they must not be added. */
int loop_take_over_receiving_key(struct loop *loop, unsigned slot, uint32_t index);
void loop_forget_receiving_keys(struct loop *loop, unsigned slot);

#endif
