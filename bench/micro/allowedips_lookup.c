/* allowedips_lookup: what finding the peer of an address costs, by the number of prefixes.
 *
 *     cc -O2 -I../../csrc -o allowedips_lookup allowedips_lookup.c ../../csrc/host/allowedips.c
 *     ./allowedips_lookup
 *
 * The table's rival is a path-compressed binary trie, as the kernel's WireGuard keeps it, with
 * its nodes in one array. "One flow" asks for the same address every time, "all peers" for one that
 * lies in a prefix chosen at random. CPU-ns a look-up, median of ROUNDS.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/allowedips.h"

enum { ROUNDS = 15, N_ADDRESSES = 1 << 16, N_PREFIXES_MAX = 10000, SLOT_NONE = 65535 };

struct prefix {
    uint8_t address[16];
    unsigned length;
    uint16_t slot;
};

static struct prefix prefixes[N_PREFIXES_MAX];
static uint8_t addresses[N_ADDRESSES][16];
static uint64_t random_state = 1;

static uint64_t random_next(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull >> 8;
}

/* -- the rival --------------------------------------------------------------------------------- */

struct node {
    uint64_t high, low;
    uint32_t children[2]; /* index, 0 = none */
    uint8_t length;
    uint16_t slot;
};

static struct node nodes[2 * N_PREFIXES_MAX + 2];
static uint32_t n_nodes, root;

static inline uint64_t be64_part(const uint8_t *bytes, size_t n) {
    uint64_t value = 0;
    memcpy(&value, bytes, n);
    return be64toh(value);
}

static unsigned bit_at(uint64_t high, uint64_t low, unsigned i) {
    return (unsigned)((i < 64 ? high >> (63 - i) : low >> (127 - i)) & 1);
}

static unsigned common_bits(const struct node *node, uint64_t high, uint64_t low) {
    uint64_t difference = node->high ^ high;
    if (difference != 0)
        return (unsigned)__builtin_clzll(difference);
    difference = node->low ^ low;
    return difference != 0 ? 64 + (unsigned)__builtin_clzll(difference) : 128;
}

static int trie_lookup(uint64_t high, uint64_t low) {
    int found = SLOT_NONE;
    for (uint32_t at = root; at != 0;) {
        const struct node *node = &nodes[at];
        if (common_bits(node, high, low) < node->length)
            break;
        if (node->slot != SLOT_NONE)
            found = node->slot;
        if (node->length == 128)
            break;
        at = node->children[bit_at(high, low, node->length)];
    }
    return found == SLOT_NONE ? -1 : found;
}

static uint32_t new_node(uint64_t high, uint64_t low, unsigned length, uint16_t slot) {
    nodes[++n_nodes] = (struct node){high, low, {0, 0}, (uint8_t)length, slot};
    return n_nodes;
}

static void trie_insert(uint64_t high, uint64_t low, unsigned length, uint16_t slot) {
    uint32_t *link = &root;
    for (;;) {
        struct node *node = &nodes[*link];
        unsigned common = *link == 0 ? 0 : common_bits(node, high, low);
        if (*link == 0) {
            *link = new_node(high, low, length, slot);
            return;
        }
        if (common >= node->length && length == node->length) {
            node->slot = slot;
            return;
        }
        if (common >= node->length && length > node->length) {
            link = &node->children[bit_at(high, low, node->length)];
            continue;
        }
        unsigned fork = common < length ? common : length;
        uint32_t old = *link, parent = new_node(high, low, fork, SLOT_NONE);
        nodes[parent].children[bit_at(nodes[old].high, nodes[old].low, fork)] = old;
        *link = parent;
        if (fork == length)
            nodes[parent].slot = slot;
        else
            nodes[parent].children[bit_at(high, low, fork)] = new_node(high, low, length, slot);
        return;
    }
}

/* -- measuring --------------------------------------------------------------------------------- */

static int version;
static struct allowedips *table;

static int table_one(const uint8_t *address) {
    return version == 4 ? allowedips_lookup4(table, address) : allowedips_lookup6(table, address);
}

static int trie_one(const uint8_t *address) {
    return version == 4 ? trie_lookup(be64_part(address, 4), 0)
                        : trie_lookup(be64_part(address, 8), be64_part(address + 8, 8));
}

/* Half host routes, as peers have them, half networks of any size from /12 or /20 on. */
static void fill(int n) {
    unsigned width = version == 4 ? 32 : 128, shortest = version == 4 ? 12 : 20;
    table = allowedips_new();
    n_nodes = root = 0;
    for (int i = 0; i < n; i++) {
        struct prefix *prefix = &prefixes[i];
        for (int byte = 0; byte < 16; byte++)
            prefix->address[byte] = (uint8_t)random_next();
        prefix->address[0] = version == 4 ? 10 : 0xfd;
        prefix->length =
            i % 2 == 0 ? width : shortest + (unsigned)(random_next() % (width - shortest));
        prefix->slot = (uint16_t)(i % 1024);
        if (allowedips_insert(table, version, prefix->address, prefix->length, prefix->slot) < 0)
            exit(EXIT_FAILURE);
        trie_insert(be64_part(prefix->address, version == 4 ? 4 : 8),
                    version == 4 ? 0 : be64_part(prefix->address + 8, 8), prefix->length,
                    prefix->slot);
    }
    allowedips_settle(table);
}

static void choose_addresses(int n_prefixes, int one_flow) {
    for (int i = 0; i < N_ADDRESSES; i++) {
        const struct prefix *prefix = &prefixes[one_flow ? 0 : random_next() % (size_t)n_prefixes];
        memcpy(addresses[i], prefix->address, 16);
        for (unsigned bit = prefix->length; bit < (version == 4 ? 32u : 128u) && !one_flow; bit++)
            if (random_next() % 2 != 0)
                addresses[i][bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        int a = table_one(addresses[i]), b = trie_one(addresses[i]);
        if ((a < 0) != (b < 0) || (a >= 0 && a != b)) {
            fprintf(stderr, "allowedips_lookup: table and trie disagree\n");
            exit(EXIT_FAILURE);
        }
    }
}

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Every look-up waits for the one before it, as a packet's does. */
static double turn_ns(int (*lookup)(const uint8_t *)) {
    unsigned last = 0;
    double begin = cpu_ns();
    for (unsigned i = 0; i < N_ADDRESSES; i++)
        last = (unsigned)lookup(addresses[i ^ (last >> 31)]);
    return (cpu_ns() - begin) / N_ADDRESSES + (last == UINT32_MAX - 4096);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void measure(void) {
    double figures[2][ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        figures[0][round] = turn_ns(table_one);
        figures[1][round] = turn_ns(trie_one);
    }
    for (int i = 0; i < 2; i++) {
        qsort(figures[i], ROUNDS, sizeof figures[i][0], compare);
        printf(" %5.1f |", figures[i][ROUNDS / 2]);
    }
}

int main(void) {
    printf("|      | prefixes | one flow: table | trie | all peers: table | trie | insert, us |\n"
           "| ---- | -------- | --------------- | ---- | ---------------- | ---- | ---------- |\n");
    for (version = 4; version <= 6; version += 2)
        for (int n = 1; n <= N_PREFIXES_MAX; n *= 10) {
            double begin = cpu_ns();
            fill(n);
            double insert_us = (cpu_ns() - begin) / n / 1000;
            printf("| IPv%d | %8d |", version, n);
            choose_addresses(n, 1);
            measure();
            choose_addresses(n, 0);
            measure();
            printf(" %5.1f |\n", insert_us);
            allowedips_free(table);
        }
    return EXIT_SUCCESS;
}
