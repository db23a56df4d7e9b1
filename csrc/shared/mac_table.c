#define _GNU_SOURCE
#include "shared/mac_table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "fastun.h"
#include "packet/mac_key.h"
#include "shared/shared_memory.h"

enum {
    /* Addresses may be a million in 65,536 chains; far longer ones are not met with a secret hash.
     * It bounds a reader whose chain is being changed under it. */
    CHAIN_MAX = 256,
    HEAD_BITS = 16,
    N_ENTRIES = N_MAC_OWNERS * MACS_PER_OWNER,
    NO_ENTRY = 0, /* in heads and chains: numbers are one more than an entry's place */
};

_Static_assert(1 << HEAD_BITS == MAC_HEADS, "a head is so many bits of the hash");

/* A known address is marked again when its mark is so old: not a write for every frame. */
#define REFRESH_NS 125000000ull

/* -- life -------------------------------------------------------------------------------------- */

struct mac_table *mac_table_create(int *fd) {
    struct mac_table *table = shared_memory_create("fastun-macs", sizeof *table, fd);
    if (table == NULL)
        return NULL;
    if (getrandom(&table->hash_key, sizeof table->hash_key, 0) == (ssize_t)sizeof table->hash_key)
        return table;
    int error = errno;
    mac_table_detach(table);
    close(*fd);
    errno = error;
    return NULL;
}

struct mac_table *mac_table_attach(int fd) {
    return shared_memory_attach(fd, sizeof(struct mac_table));
}

void mac_table_detach(struct mac_table *table) {
    munmap(table, sizeof *table);
}

/* -- entries ----------------------------------------------------------------------------------- */

static enum mac_index index_of(unsigned owner) {
    return owner == MAC_OWNER_LOCAL ? MAC_INDEX_LOCAL : MAC_INDEX_PEERS;
}

static unsigned owner_of(uint32_t number) {
    return (number - 1) / MACS_PER_OWNER;
}

static uint32_t place_of(uint32_t number) {
    return (number - 1) % MACS_PER_OWNER;
}

static uint32_t number_of(unsigned owner, uint32_t place) {
    return owner * MACS_PER_OWNER + place + 1;
}

static _Atomic uint64_t *key_of(struct mac_table *table, uint32_t number) {
    return &table->owners[owner_of(number)].keys[place_of(number)];
}

static _Atomic uint64_t *seen_of(struct mac_table *table, uint32_t number) {
    return &table->owners[owner_of(number)].seen_ns[place_of(number)];
}

static _Atomic uint32_t *next_of(struct mac_table *table, uint32_t number) {
    return &table->owners[owner_of(number)].next[place_of(number)];
}

static uint64_t read_word(const _Atomic uint64_t *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void write_word(_Atomic uint64_t *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static bool is_fresh(uint64_t seen_ns, uint64_t now_ns) {
    return now_ns < seen_ns + MAC_AGE_NS;
}

/* -- the index --------------------------------------------------------------------------------- */

static _Atomic uint32_t *head_of(struct mac_table *table, enum mac_index index, uint64_t key) {
    uint64_t mixed = (key ^ table->hash_key) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 29 ^ table->hash_key) * 0x9e3779b97f4a7c15u;
    return &table->heads[index][mixed >> (64 - HEAD_BITS)];
}

static uint32_t read_number(const _Atomic uint32_t *number) {
    return atomic_load_explicit(number, memory_order_acquire);
}

/* The address's entry, or NO_ENTRY. Trusts nothing that another process may have written. An entry
 * that is given another address, while it is looked at or on the way to it, leads into another chain:
 * from the head again. */
static uint32_t search(struct mac_table *table, enum mac_index index, uint64_t key) {
    const _Atomic uint32_t *head = head_of(table, index, key);
    uint32_t number = read_number(head); /* acquire: pairs with the releases in insert() */
    for (int i = 0; i < CHAIN_MAX && number != NO_ENTRY && number <= N_ENTRIES; i++) {
        uint64_t found = atomic_load_explicit(key_of(table, number), memory_order_acquire);
        if (found == key)
            return index_of(owner_of(number)) == index ? number : NO_ENTRY;
        uint32_t next = read_number(next_of(table, number));
        bool is_same = found != 0 && head_of(table, index, found) == head &&
                       read_word(key_of(table, number)) == found;
        number = is_same ? next : read_number(head);
    }
    return NO_ENTRY;
}

static void insert(struct mac_table *table, uint32_t number, uint64_t key) {
    _Atomic uint32_t *head = head_of(table, index_of(owner_of(number)), key);
    /* release, each: who reads the next one finds that the key before has gone; who reads the key,
     * or the entry by its head, finds the rest */
    atomic_store_explicit(next_of(table, number), atomic_load_explicit(head, memory_order_relaxed),
                          memory_order_release);
    atomic_store_explicit(key_of(table, number), key, memory_order_release);
    atomic_store_explicit(head, number, memory_order_release);
}

/* Frees the entry. Either writer can write either index, so a number is looked at here as well. */
static void remove_entry(struct mac_table *table, uint32_t number) {
    uint64_t key = read_word(key_of(table, number));
    if (key == 0)
        return;
    _Atomic uint32_t *link = head_of(table, index_of(owner_of(number)), key);
    uint32_t next = atomic_load_explicit(next_of(table, number), memory_order_relaxed);
    for (int i = 0; i < CHAIN_MAX; i++) {
        uint32_t at = atomic_load_explicit(link, memory_order_relaxed);
        if (at == number)
            atomic_store_explicit(link, next, memory_order_release);
        if (at == number || at == NO_ENTRY || at > N_ENTRIES)
            break;
        link = next_of(table, at);
    }
    write_word(key_of(table, number), 0);
    write_word(seen_of(table, number), 0);
}

static uint32_t count_used(const struct mac_owner *owner) {
    uint32_t n = atomic_load_explicit(&owner->n_used, memory_order_relaxed);
    return n < MACS_PER_OWNER ? n : MACS_PER_OWNER;
}

/* -- what a killed writer left ----------------------------------------------------------------- */

struct seen {
    uint64_t ns;
    uint32_t place;
};

static int by_time(const void *left, const void *right) {
    const struct seen *a = left, *b = right;
    return (a->ns > b->ns) - (a->ns < b->ns);
}

static void recover_order(struct mac_owner *owner, uint32_t n_used) {
    struct seen seen[MACS_PER_OWNER];
    for (uint32_t place = 0; place < n_used; place++)
        seen[place] = (struct seen){read_word(&owner->seen_ns[place]), place};
    qsort(seen, n_used, sizeof *seen, by_time);
    mac_order_clear(&owner->order);
    for (uint32_t i = 0; i < n_used; i++)
        mac_order_add(&owner->order, seen[i].place);
}

static void recover_owner(struct mac_table *table, unsigned owner) {
    uint32_t n_used = count_used(&table->owners[owner]);
    if (n_used == 0)
        return;
    for (uint32_t place = 0; place < n_used; place++) {
        uint64_t key = read_word(&table->owners[owner].keys[place]);
        if (key != 0)
            insert(table, number_of(owner, place), key);
    }
    recover_order(&table->owners[owner], n_used);
}

void mac_table_recover(struct mac_table *table, enum mac_index index) {
    for (unsigned i = 0; i < MAC_HEADS; i++)
        if (atomic_load_explicit(&table->heads[index][i], memory_order_relaxed) != NO_ENTRY)
            atomic_store_explicit(&table->heads[index][i], NO_ENTRY, memory_order_relaxed);
    for (unsigned owner = 0; owner < N_MAC_OWNERS; owner++)
        if (index_of(owner) == index)
            recover_owner(table, owner);
}

/* -- finding ----------------------------------------------------------------------------------- */

/* When the address was last seen by the index's owners; 0: it was not, or too long ago. */
static uint64_t find_in(struct mac_table *table, enum mac_index index, uint64_t key,
                        uint64_t now_ns, int *owner) {
    uint32_t number = search(table, index, key);
    uint64_t seen_ns = number == NO_ENTRY ? 0 : read_word(seen_of(table, number));
    if (seen_ns == 0 || !is_fresh(seen_ns, now_ns))
        return 0;
    *owner = (int)owner_of(number);
    return seen_ns;
}

int mac_table_find(struct mac_table *table, uint64_t key, uint64_t now_ns) {
    int peer = MAC_OWNER_UNKNOWN, local = MAC_OWNER_UNKNOWN;
    uint64_t peer_ns = find_in(table, MAC_INDEX_PEERS, key, now_ns, &peer);
    uint64_t local_ns = find_in(table, MAC_INDEX_LOCAL, key, now_ns, &local);
    return peer_ns > local_ns ? peer : local;
}

/* -- learning ---------------------------------------------------------------------------------- */

/* A free place, or that of the owner's oldest address. */
static uint32_t place_for(struct mac_table *table, unsigned owner) {
    struct mac_owner *of = &table->owners[owner];
    uint32_t n_used = count_used(of);
    if (n_used < MACS_PER_OWNER) {
        atomic_store_explicit(&of->n_used, n_used + 1, memory_order_relaxed);
        mac_order_add(&of->order, n_used);
        return n_used;
    }
    uint32_t oldest = mac_order_oldest(&of->order);
    mac_order_renew(&of->order, oldest);
    return oldest;
}

static void add(struct mac_table *table, unsigned owner, uint64_t key, uint64_t now_ns) {
    uint32_t number = number_of(owner, place_for(table, owner));
    remove_entry(table, number);
    write_word(seen_of(table, number), now_ns);
    insert(table, number, key);
}

static struct mac_order *order_of(struct mac_table *table, uint32_t number) {
    return &table->owners[owner_of(number)].order;
}

static void renew(struct mac_table *table, uint32_t number, uint64_t now_ns) {
    write_word(seen_of(table, number), now_ns);
    mac_order_renew(order_of(table, number), place_of(number));
}

/* In the owner's own index: there, or in the place of another owner's. */
static void take(struct mac_table *table, unsigned owner, uint64_t key, uint64_t now_ns) {
    uint32_t number = search(table, index_of(owner), key);
    if (number != NO_ENTRY && owner_of(number) == owner) {
        renew(table, number, now_ns);
        return;
    }
    if (number != NO_ENTRY) {
        remove_entry(table, number);
        mac_order_retire(order_of(table, number), place_of(number));
    }
    add(table, owner, key, now_ns);
}

enum mac_learned mac_table_learn(struct mac_table *table, unsigned owner, uint64_t key,
                                 uint64_t now_ns, bool (*may_move)(void *context), void *context) {
    int before = mac_table_find(table, key, now_ns);
    if (before == (int)owner) {
        uint32_t number = search(table, index_of(owner), key);
        if (number != NO_ENTRY && now_ns > read_word(seen_of(table, number)) + REFRESH_NS)
            renew(table, number, now_ns);
        return MAC_AS_BEFORE;
    }
    if (before != MAC_OWNER_UNKNOWN && !may_move(context))
        return MAC_HELD;
    take(table, owner, key, now_ns);
    return before == MAC_OWNER_UNKNOWN ? MAC_NEW : MAC_MOVED;
}

void mac_table_forget(struct mac_table *table, unsigned owner) {
    uint32_t n_used = count_used(&table->owners[owner]);
    if (n_used == 0)
        return; /* of most slots the memory was never touched */
    for (uint32_t place = 0; place < n_used; place++)
        remove_entry(table, number_of(owner, place));
    mac_order_clear(&table->owners[owner].order);
    atomic_store_explicit(&table->owners[owner].n_used, 0, memory_order_relaxed);
}

/* -- this host's own --------------------------------------------------------------------------- */

bool mac_table_is_own(const struct mac_table *table, uint64_t key) {
    for (unsigned i = 0; i < MACS_OWN_MAX; i++) {
        uint64_t own = read_word(&table->own[i]);
        if (own != 0 && own == mac_key_without_vlan(key))
            return true;
    }
    return false;
}

/* -- the gateway's view ------------------------------------------------------------------------ */

void mac_table_set_own(struct mac_table *table, unsigned i, const uint8_t address[6]) {
    if (i < MACS_OWN_MAX)
        write_word(&table->own[i], address == NULL ? 0 : mac_key_of(address, 0));
}

unsigned mac_table_n_own(void) {
    return MACS_OWN_MAX;
}

unsigned mac_table_list(struct mac_table *table, unsigned owner, uint64_t now_ns, uint64_t *keys,
                        unsigned n_max) {
    unsigned n = 0;
    uint32_t n_used = owner < N_MAC_OWNERS ? count_used(&table->owners[owner]) : 0;
    for (uint32_t place = 0; place < n_used; place++) {
        uint64_t key = read_word(&table->owners[owner].keys[place]);
        if (key == 0 || !is_fresh(read_word(&table->owners[owner].seen_ns[place]), now_ns))
            continue;
        if (n < n_max)
            keys[n] = key;
        n++;
    }
    return n;
}
