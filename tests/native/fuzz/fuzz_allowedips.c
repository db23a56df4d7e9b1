/* Any prefixes that peers are given and lose: a look-up finds what a look at all of them finds.
 * Input: steps of `what u8, slot u8, prefix length u8, address`. */
#include <errno.h>
#include <stdlib.h>

#include "fuzz.h"
#include "host/allowedips.h"

enum { STEP = 7, N_STEPS_MAX = 200, N_SLOTS = 5 };

static struct prefix {
    uint8_t address[16];
    unsigned length;
    uint16_t slot;
    int version;
} known[N_STEPS_MAX];
static size_t n_known;

static bool covers(const struct prefix *prefix, int version, const uint8_t *address,
                   unsigned length) {
    if (prefix->version != version || prefix->length > length)
        return false;
    for (unsigned bit = 0; bit < prefix->length; bit++)
        if (((prefix->address[bit / 8] ^ address[bit / 8]) >> (7 - bit % 8) & 1) != 0)
            return false;
    return true;
}

static struct prefix *find(int version, const uint8_t *address, unsigned length) {
    for (size_t i = 0; i < n_known; i++)
        if (known[i].length == length && covers(&known[i], version, address, length))
            return &known[i];
    return NULL;
}

static void forget(struct prefix *prefix) {
    *prefix = known[--n_known];
}

static int look_up(int version, const uint8_t *address) {
    const struct prefix *best = NULL;
    for (size_t i = 0; i < n_known; i++)
        if (covers(&known[i], version, address, 128) && (!best || known[i].length >= best->length))
            best = &known[i];
    return best != NULL ? best->slot : -ENOENT;
}

/* Addresses are near each other, so that prefixes lie within others. */
static void make_address(const uint8_t *bytes, uint8_t address[16]) {
    memset(address, 0, 16);
    memcpy(address, bytes, 4);
    memcpy(address + 12, bytes, 4);
}

static void insert(struct allowedips *table, const struct prefix *wanted) {
    bool is_valid = wanted->length <= (wanted->version == 4 ? 32u : 128u);
    int result =
        allowedips_insert(table, wanted->version, wanted->address, wanted->length, wanted->slot);
    FUZZ_CHECK(result == (is_valid ? 0 : -EINVAL));
    struct prefix *there = find(wanted->version, wanted->address, wanted->length);
    if (is_valid)
        *(there != NULL ? there : &known[n_known++]) = *wanted;
}

static void step(struct allowedips *table, const uint8_t *data) {
    struct prefix wanted = {
        .length = data[2], .slot = data[1] % N_SLOTS, .version = (data[0] & 1) != 0 ? 6 : 4};
    make_address(data + 3, wanted.address);
    struct prefix *there = find(wanted.version, wanted.address, wanted.length);
    switch (data[0] >> 1 & 3) {
    case 0:
        allowedips_remove(table, wanted.version, wanted.address, wanted.length, wanted.slot);
        if (there != NULL && there->slot == wanted.slot)
            forget(there);
        break;
    case 1:
        allowedips_remove_slot(table, wanted.slot);
        for (size_t i = n_known; i > 0; i--)
            if (known[i - 1].slot == wanted.slot)
                forget(&known[i - 1]);
        break;
    default:
        insert(table, &wanted);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > N_STEPS_MAX * (size_t)STEP)
        return 0;
    struct allowedips *table = allowedips_new();
    FUZZ_CHECK(table != NULL);
    n_known = 0;
    for (; size >= STEP; data += STEP, size -= STEP) {
        uint8_t address[16];
        step(table, data);
        make_address(data + 3, address);
        if ((data[0] & 8) != 0)
            address[15] ^= data[1];
        allowedips_settle(table);
        FUZZ_CHECK(allowedips_lookup4(table, address) == look_up(4, address));
        FUZZ_CHECK(allowedips_lookup6(table, address) == look_up(6, address));
    }
    allowedips_free(table);
    return 0;
}
