/* keys: the keys of sessions, a part of fastun.h by its rules. csrc/session/key_region.h says how
 * gateway and workers share them.
 */
#ifndef FASTUN_KEYS_H
#define FASTUN_KEYS_H

#include "counters.h"
#include "fastun.h"

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
