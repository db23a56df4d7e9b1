/* Look-ups of the peer that an address belongs to, and counters shown to a session's window. */
#include <errno.h>

#include "host/allowedips.h"
#include "measured_subjects.h"
#include "session/replay.h"

/* -- allowed IPs ------------------------------------------------------------------------------- */

enum { N_ADDRESSES = 1 << 14, N_PEERS = 1000 };

static struct allowedips *table;
static int version;
static uint8_t addresses[N_ADDRESSES][16];

static size_t width_bits(void) {
    return version == 4 ? 32 : 128;
}

/* Half host routes, as peers have them, half networks of any size from /12 or /20 on. The address
 * that is asked for lies in the prefix: its bits behind the prefix are its own. */
static int insert_random(struct random *random, size_t i, uint8_t address[16]) {
    size_t shortest = version == 4 ? 12 : 20;
    size_t n_bits =
        i % 2 == 0 ? width_bits() : shortest + random_below(random, width_bits() - shortest);
    random_fill(random, address, 16);
    address[0] = version == 4 ? 10 : 0xfd;
    return allowedips_insert(table, version, address, (unsigned)n_bits, (uint16_t)(i % N_PEERS));
}

/* What is asked for goes round all prefixes, in no order that the table has. */
static void spread(size_t n_prefixes) {
    for (size_t i = n_prefixes; i < N_ADDRESSES; i++)
        memcpy(addresses[i], addresses[i % n_prefixes], sizeof addresses[i]);
}

int prepare_allowedips(size_t size, int kind) {
    struct random random = {1};
    int error = 0;
    version = kind;
    allowedips_free(table);
    table = allowedips_new();
    if (table == NULL || size > N_ADDRESSES)
        return table == NULL ? -ENOMEM : -EINVAL;
    for (size_t i = 0; i < size && error == 0; i++)
        error = insert_random(&random, i, addresses[i]);
    allowedips_settle(table);
    spread(size);
    return error;
}

/* Every look-up waits for the one before it, as a packet's does. */
uint64_t run_allowedips(uint64_t n) {
    uint64_t done = 0;
    int slot = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *address = addresses[(i + (unsigned)(slot < 0)) % N_ADDRESSES];
        slot =
            version == 4 ? allowedips_lookup4(table, address) : allowedips_lookup6(table, address);
        done += slot >= 0;
    }
    return done;
}

/* -- replay ------------------------------------------------------------------------------------ */

enum { N_SHUFFLED = 4096 }; /* half of the window, so that none is too old */

static struct replay window;
static uint64_t n_shown;
static uint16_t shuffled[N_SHUFFLED];

int prepare_replay(size_t size, int kind) {
    struct random random = {1};
    (void)size;
    (void)kind;
    window = (struct replay){0};
    n_shown = 0;
    for (uint16_t i = 0; i < N_SHUFFLED; i++) {
        size_t other = random_below(&random, (size_t)i + 1);
        shuffled[i] = shuffled[other];
        shuffled[other] = i;
    }
    return 0;
}

uint64_t run_replay_in_order(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += replay_accept(&window, n_shown++);
    return done;
}

uint64_t run_replay_shuffled(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++, n_shown++) {
        uint64_t begin = n_shown - n_shown % N_SHUFFLED;
        done += replay_accept(&window, begin + shuffled[n_shown % N_SHUFFLED]);
    }
    return done;
}
