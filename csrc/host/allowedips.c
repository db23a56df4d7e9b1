/* Prefixes nest or lie apart, so they cut the address space into at most 2 n + 1 ranges, each of
 * one slot. Changes only append, or remove a whole slot; after them all the prefixes are sorted, by first address
 * and then from short to long, and the ranges drawn anew, with a stack of the prefixes that are open
 * at a point. (Sorted in one by one, 130,000 took minutes.) A look-up is a binary search for the
 * last range that begins at or before the address.
 *
 * That was measured against a path-compressed trie (bench/micro/README.md): the search's steps are
 * arithmetic, where each of the trie's branches is a coin toss for the processor's prediction.
 */
#define _GNU_SOURCE
#include "host/allowedips.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "packet/headers.h"

enum {
    SLOT_NONE = ALLOWEDIPS_SLOT_MAX + 1,
    PREFIX_LENGTH_MAX = 128,
    N_OPEN_MAX = PREFIX_LENGTH_MAX + 1, /* prefixes that hold one address: each length once */
    N_FIRST = 16,                       /* prefixes that there is room for at first */
};

/* A 128-bit number. An IPv4 address is in its upper 32 bits, so that the arithmetic is one. */
struct address {
    uint64_t high, low;
};

struct prefix {
    struct address first;
    uint8_t length;
    bool is_removal; /* of the prefix, where it is the slot's; none in all that are settled */
    uint16_t slot;
    uint32_t order; /* in which changes of equal prefixes were made; 0 in all that are settled */
};

struct table {
    struct prefix *prefixes;
    size_t n_prefixes, n_max;
    bool is_sorted, is_drawn; /* the prefixes, each once; and from them the ranges */
    /* Ranges as three columns: IPv4 looks at two of them only. */
    uint64_t *high, *low;
    uint16_t *slots;
    size_t n_ranges;
};

struct allowedips {
    struct table ipv4, ipv6;
};

/* -- addresses --------------------------------------------------------------------------------- */

static struct address address4(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return (struct address){(uint64_t)be32toh(value) << 32, 0};
}

static struct address address6(const uint8_t *bytes) {
    uint64_t halves[2];
    memcpy(halves, bytes, sizeof halves);
    return (struct address){be64toh(halves[0]), be64toh(halves[1])};
}

static bool is_before(struct address a, struct address b) {
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}

static bool is_equal(struct address a, struct address b) {
    return a.high == b.high && a.low == b.low;
}

/* Ones where the prefix leaves the address free. A shift by 64 is undefined. */
static struct address free_bits(unsigned length) {
    if (length < 64)
        return (struct address){UINT64_MAX >> length, UINT64_MAX};
    return (struct address){0, length < 128 ? UINT64_MAX >> (length - 64) : 0};
}

static struct address last_of(const struct prefix *prefix) {
    struct address bits = free_bits(prefix->length);
    return (struct address){prefix->first.high | bits.high, prefix->first.low | bits.low};
}

/* -- ranges ------------------------------------------------------------------------------------ */

static void begin_range(struct table *table, struct address first, uint16_t slot) {
    size_t n = table->n_ranges;
    /* Nothing is left of a range that begins at the same address: the later word holds. */
    if (n > 0 && table->high[n - 1] == first.high && table->low[n - 1] == first.low)
        n--;
    table->high[n] = first.high;
    table->low[n] = first.low;
    table->slots[n] = slot;
    table->n_ranges = n + 1;
}

/* Behind the innermost open prefix its neighbour on the stack goes on. */
static void end_prefix(struct table *table, const struct prefix **open, size_t n_open) {
    struct address last = last_of(open[n_open - 1]);
    struct address next = {last.high + (last.low == UINT64_MAX), last.low + 1};
    if (next.high != 0 || next.low != 0) /* else it ends with the address space */
        begin_range(table, next, n_open > 1 ? open[n_open - 2]->slot : SLOT_NONE);
}

static void draw_ranges(struct table *table) {
    const struct prefix *open[N_OPEN_MAX];
    size_t n_open = 0;
    table->n_ranges = 0;
    begin_range(table, (struct address){0, 0}, SLOT_NONE);
    for (size_t i = 0; i < table->n_prefixes; i++) {
        const struct prefix *prefix = &table->prefixes[i];
        for (; n_open > 0 && is_before(last_of(open[n_open - 1]), prefix->first); n_open--)
            end_prefix(table, open, n_open);
        begin_range(table, prefix->first, prefix->slot);
        open[n_open++] = prefix;
    }
    for (; n_open > 0; n_open--)
        end_prefix(table, open, n_open);
}

/* -- settling ---------------------------------------------------------------------------------- */

static int compare_places(const struct prefix *a, const struct prefix *b) {
    if (!is_equal(a->first, b->first))
        return is_before(a->first, b->first) ? -1 : 1;
    return a->length - b->length;
}

static int compare(const void *left, const void *right) {
    const struct prefix *a = left, *b = right;
    int place = compare_places(a, b);
    return place != 0 ? place : (a->order > b->order) - (a->order < b->order);
}

/* What all changes at a place leave there, one behind the other. */
static size_t keep_last(struct prefix *prefixes, size_t n) {
    size_t n_kept = 0;
    for (size_t i = 0; i < n;) {
        struct prefix last = prefixes[i];
        bool is_there = false;
        for (; i < n && compare_places(&prefixes[i], &last) == 0; i++) {
            if (prefixes[i].is_removal) {
                is_there = is_there && last.slot != prefixes[i].slot;
                continue;
            }
            last = prefixes[i];
            is_there = true;
        }
        last.order = 0;
        if (is_there)
            prefixes[n_kept++] = last;
    }
    return n_kept;
}

static void sort(struct table *table) {
    if (table->is_sorted || table->n_prefixes == 0)
        return;
    qsort(table->prefixes, table->n_prefixes, sizeof *table->prefixes, compare);
    table->n_prefixes = keep_last(table->prefixes, table->n_prefixes);
    table->is_sorted = true;
}

static void settle(struct table *table) {
    sort(table);
    if (!table->is_drawn && table->n_max > 0)
        draw_ranges(table);
    table->is_drawn = true;
}

/* -- changes ----------------------------------------------------------------------------------- */

static bool grow(void *column, size_t n, size_t size) {
    void *old, *grown;
    memcpy(&old, column, sizeof old);
    grown = reallocarray(old, n, size);
    if (grown == NULL)
        return false;
    memcpy(column, &grown, sizeof grown);
    return true;
}

/* Columns that have grown when a later one fails are longer than n_max says, which is harmless. */
static int make_room(struct table *table) {
    size_t n = table->n_max == 0 ? N_FIRST : table->n_max * 2;
    if (table->n_prefixes < table->n_max)
        return 0;
    if (!grow(&table->prefixes, n, sizeof *table->prefixes) ||
        !grow(&table->high, 2 * n + 1, sizeof *table->high) ||
        !grow(&table->low, 2 * n + 1, sizeof *table->low) ||
        !grow(&table->slots, 2 * n + 1, sizeof *table->slots))
        return -ENOMEM;
    table->n_max = n;
    return 0;
}

static int table_append(struct table *table, struct prefix prefix) {
    int error = make_room(table);
    if (error < 0)
        return error;
    prefix.order = (uint32_t)++table->n_prefixes;
    table->prefixes[table->n_prefixes - 1] = prefix;
    table->is_sorted = table->is_drawn = false;
    return 0;
}

static int change(struct allowedips *allowedips, int version, const uint8_t *address,
                  unsigned prefix_length, uint16_t slot, bool is_removal) {
    if ((version != 4 && version != 6) || prefix_length > (version == 4 ? 32 : 128) ||
        slot > ALLOWEDIPS_SLOT_MAX)
        return -EINVAL;
    struct address first = version == 4 ? address4(address) : address6(address);
    struct address bits = free_bits(prefix_length);
    struct prefix prefix = {
        .first = {first.high & ~bits.high, first.low & ~bits.low},
        .length = (uint8_t)prefix_length,
        .is_removal = is_removal,
        .slot = slot,
    };
    return table_append(version == 4 ? &allowedips->ipv4 : &allowedips->ipv6, prefix);
}

int allowedips_insert(struct allowedips *allowedips, int version, const uint8_t *address,
                      unsigned prefix_length, uint16_t slot) {
    return change(allowedips, version, address, prefix_length, slot, false);
}

int allowedips_remove(struct allowedips *allowedips, int version, const uint8_t *address,
                      unsigned prefix_length, uint16_t slot) {
    return change(allowedips, version, address, prefix_length, slot, true);
}

static void table_remove(struct table *table, uint16_t slot) {
    size_t n_kept = 0;
    sort(table); /* else a prefix that has moved to the slot would fall back to its old one */
    for (size_t i = 0; i < table->n_prefixes; i++)
        if (table->prefixes[i].slot != slot)
            table->prefixes[n_kept++] = table->prefixes[i];
    table->is_drawn = table->is_drawn && n_kept == table->n_prefixes;
    table->n_prefixes = n_kept;
}

void allowedips_remove_slot(struct allowedips *allowedips, uint16_t slot) {
    table_remove(&allowedips->ipv4, slot);
    table_remove(&allowedips->ipv6, slot);
}

void allowedips_settle(struct allowedips *allowedips) {
    settle(&allowedips->ipv4);
    settle(&allowedips->ipv6);
}

struct allowedips *allowedips_new(void) {
    return calloc(1, sizeof(struct allowedips));
}

static void table_free(struct table *table) {
    free(table->prefixes);
    free(table->high);
    free(table->low);
    free(table->slots);
}

void allowedips_free(struct allowedips *allowedips) {
    if (allowedips == NULL)
        return;
    table_free(&allowedips->ipv4);
    table_free(&allowedips->ipv6);
    free(allowedips);
}

/* -- look-ups ---------------------------------------------------------------------------------- */

/* `wide` is a constant in each caller, so the compiler makes two searches of this. */
static inline int search(const struct table *table, struct address address, bool wide) {
    const uint64_t *high = table->high;
    for (size_t n = table->n_ranges; n > 1; n -= n / 2) {
        const uint64_t *middle = high + n / 2;
        bool reached = *middle <= address.high;
        if (wide && *middle == address.high)
            reached = table->low[middle - table->high] <= address.low;
        high = reached ? middle : high; /* for IPv4 a conditional move: nothing to predict */
    }
    if (table->n_ranges == 0 || table->slots[high - table->high] == SLOT_NONE)
        return -ENOENT;
    return table->slots[high - table->high];
}

int allowedips_lookup4(const struct allowedips *allowedips, const uint8_t address[4]) {
    return search(&allowedips->ipv4, address4(address), false);
}

int allowedips_lookup6(const struct allowedips *allowedips, const uint8_t address[16]) {
    return search(&allowedips->ipv6, address6(address), true);
}

int allowedips_lookup_ip(const struct allowedips *allowedips, const uint8_t *packet, bool source) {
    const uint8_t *address = source ? ip_source(packet) : ip_destination(packet);
    return ip_version(packet) == 4 ? allowedips_lookup4(allowedips, address)
                                   : allowedips_lookup6(allowedips, address);
}
