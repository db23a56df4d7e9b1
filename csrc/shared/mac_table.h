/* mac_table: on which side of a TAP device a MAC address is, learned from the sources of frames.
 *
 * An owner is a peer's slot, or this host's own side (MAC_OWNER_LOCAL: the host, and what a bridge
 * has behind it). Each owner has room for MACS_PER_OWNER addresses that no other can take from it:
 * when they are used up its oldest goes (mac_order.h), so forged addresses of one peer cost the
 * others nothing, neither room nor time.
 * An address that was not seen for MAC_AGE_NS is unknown, as in the kernel's bridge.
 *
 * Two indices lead to the entries: the link-reader writes the one of the peers, the tun-reader the
 * local one, and either reads both without a lock. An address that is in both is where it was seen
 * last. An entry belongs to one owner for ever and is recognised by its key alone, which is written
 * last; a reader that meets one in the middle of a change begins anew, or finds nothing: a flood.
 * A writer that was killed leaves at worst a chain that is cut: its successor makes the index anew
 * from the entries (mac_table_recover).
 *
 * The key is the address with the VLAN's id, for the same address may be in several. Peers choose
 * addresses, but not their place in the index, which depends on a secret.
 */
#ifndef FASTUN_SHARED_MAC_TABLE_H
#define FASTUN_SHARED_MAC_TABLE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/mac_order.h"
#include "shared/peer_table.h"

enum {
    MAC_OWNER_LOCAL = N_PEER_SLOTS,
    N_MAC_OWNERS,
    MAC_OWNER_UNKNOWN = -1,
    MAC_HEADS = 1 << 16,
    MACS_OWN_MAX = 4, /* of this host: the device's, its bridge's */
};

#define MAC_AGE_NS 300000000000ull

/* Which writer's index. */
enum mac_index { MAC_INDEX_PEERS, MAC_INDEX_LOCAL, N_MAC_INDICES };

struct mac_owner {
    alignas(64) _Atomic uint32_t n_used;      /* entries from here on were never used */
    _Atomic uint64_t keys[MACS_PER_OWNER];    /* 0: free */
    _Atomic uint64_t seen_ns[MACS_PER_OWNER]; /* CLOCK_MONOTONIC */
    _Atomic uint32_t next[MACS_PER_OWNER];    /* of the chain: an entry's number + 1; 0: the end */
    struct mac_order order;                   /* of all entries that were used, by seen_ns */
};

struct mac_table {
    uint64_t hash_key;
    _Atomic uint64_t own[MACS_OWN_MAX]; /* addresses that no peer can have, without VLAN; 0: none */
    _Atomic uint32_t heads[N_MAC_INDICES][MAC_HEADS];
    struct mac_owner owners[N_MAC_OWNERS];
};

/* What learning an address has come to. */
enum mac_learned {
    MAC_AS_BEFORE, /* it was there already */
    MAC_NEW,
    MAC_MOVED, /* from another owner */
    MAC_HELD,  /* it is another owner's, and may not move now */
};

/* Before look-ups by a writer: its index is made from the entries that its predecessor left. */
void mac_table_recover(struct mac_table *table, enum mac_index index);

/* The owner of the address at this moment, or MAC_OWNER_UNKNOWN. Any process. */
int mac_table_find(struct mac_table *table, uint64_t key, uint64_t now_ns);

/* The owner's index's writer: a frame with this source came from the owner. `may_move` is asked only
 * if the address is another's. */
enum mac_learned mac_table_learn(struct mac_table *table, unsigned owner, uint64_t key,
                                 uint64_t now_ns, bool (*may_move)(void *context), void *context);

/* The index's writer: the owner has no addresses any more. */
void mac_table_forget(struct mac_table *table, unsigned owner);

/* Whether the address, of a key, is this host's own, in whatever VLAN. */
bool mac_table_is_own(const struct mac_table *table, uint64_t key);

#endif
