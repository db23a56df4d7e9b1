/* key_table: the receiving keys of all peers, found by the index that a data message names.
 *
 * An open hash table with linear probing beside each peer's short list, which keeps the order of
 * age: previous, current, and those in the making. Private to the link-reader. A look-up allocates
 * nothing; adding and forgetting happen between two runs of the loop.
 */
#ifndef FASTUN_SESSION_KEY_TABLE_H
#define FASTUN_SESSION_KEY_TABLE_H

#include "shared/peer_table.h"
#include "session/session.h"

enum {
    /* WireGuard's previous, current and next; and a next of the other link, where a peer on TCP is
     * tried on UDP again. */
    N_RECEIVING_KEYS = 4,
    /* Twice as many as there can be keys: probes stay short. */
    KEY_TABLE_PLACES = 2 * N_RECEIVING_KEYS * N_PEER_SLOTS,
};

_Static_assert((int)MARKS_A_SLOT == (int)N_RECEIVING_KEYS, "each key of a slot has a mark");

struct key_table {
    struct replay_marks *marks; /* NULL: no successor goes on */
    struct receiving_key *by_index[KEY_TABLE_PLACES];
    struct receiving_key *by_slot[N_PEER_SLOTS][N_RECEIVING_KEYS];
};

/* NULL: no session has this index. */
struct receiving_key *key_table_find(const struct key_table *table, uint32_t index);
/* The peer's key of that index, made if it is not there; where the peer has no place left, the
 * oldest of several keys that were never used makes way, else the oldest. NULL: no memory, or the
 * index is another peer's. */
struct receiving_key *key_table_add(struct key_table *table, unsigned slot, uint32_t index);
/* The same for a key that a predecessor has opened with, with what it has used up. NULL also where it
 * left no mark. */
struct receiving_key *key_table_take_over(struct key_table *table, unsigned slot, uint32_t index);
/* Forgets a key to which no cipher could be offered. One that opened something stays: its mark keeps
 * that from being opened again. */
void key_table_forget_empty(struct key_table *table, struct receiving_key *key);
void key_table_forget_slot(struct key_table *table, unsigned slot);
/* The peer's keys that are older than that of `index`, if it has that one, become outdated. */
void key_table_outdate(struct key_table *table, unsigned slot, uint32_t index);

#endif
