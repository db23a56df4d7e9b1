/* Any bytes as what comes to the table of addresses: it answers as the list of mac_model.h does.
 * And any bytes as the chains that a killed writer left: a reader comes to an end, inside the
 * table, and a successor finds all again. Input: steps of 8 bytes. */
#include "fastun.h"
#include "fuzz.h"
#include "mac_model.h"
#include "packet/mac_key.h"

enum { STEP = 8, N_STEPS_MAX = 512, N_OWNERS = 3, N_KEYS = 64, N_DISTURBED_MAX = 2 };

static const unsigned owners[N_OWNERS] = {0, 1, MAC_OWNER_LOCAL};
static struct mac_table *table;
static struct mac_model model;
static int fd;

static bool answer(void *context) {
    return *(bool *)context;
}

static uint64_t key_of(uint8_t i) {
    const uint8_t address[MAC_SIZE] = {2, 0, 0, 0, 0, (uint8_t)(i % N_KEYS)};
    return mac_key_of(address, i % 3u);
}

static void disturb(const uint8_t *step) {
    uint32_t value = le32_read(step + 4);
    atomic_store(&table->heads[step[0] & 1][le16_read(step + 2)], value);
    unsigned owner = owners[step[1] % N_OWNERS];
    struct mac_owner *of = &table->owners[owner];
    atomic_store(&of->next[step[3]], value);
    atomic_store(&of->order.newer[step[3]], (uint16_t)value);
    atomic_store(&of->order.older[step[2]], (uint16_t)(value >> 16));
    for (uint8_t i = 0; i < N_KEYS; i++)
        FUZZ_CHECK(mac_table_find(table, key_of(i), 1) <= MAC_OWNER_LOCAL);
    if ((step[0] & 2) != 0) { /* a writer comes along the chain as well */
        mac_table_forget(table, owner);
        mac_model_forget(&model, (int)owner);
    }
    mac_table_recover(table, MAC_INDEX_PEERS);
    mac_table_recover(table, MAC_INDEX_LOCAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t now_ns = 1000;
    unsigned n_disturbed = 0; /* few: a successor goes through the whole table */
    if (size > N_STEPS_MAX * (size_t)STEP)
        return 0;
    if (table == NULL)
        table = mac_table_create(&fd);
    for (unsigned i = 0; i < N_OWNERS; i++)
        mac_table_forget(table, owners[i]);
    model.n = 0;
    for (; size >= STEP; data += STEP, size -= STEP) {
        unsigned owner = owners[data[1] % N_OWNERS];
        bool may_move = (data[0] & 2) != 0;
        now_ns += (uint64_t)le16_read(data + 4) * ((data[0] & 4) != 0 ? 100000000u : 1000u) + 1;
        if ((data[0] & 0xf8) == 0) {
            mac_table_forget(table, owner);
            mac_model_forget(&model, (int)owner);
        } else if ((data[0] & 0xf8) == 8 && n_disturbed < N_DISTURBED_MAX) {
            n_disturbed++;
            disturb(data);
        } else {
            mac_table_learn(table, owner, key_of(data[2]), now_ns, answer, &may_move);
            mac_model_learn(&model, (int)owner, key_of(data[2]), now_ns, may_move);
        }
        FUZZ_CHECK(mac_table_find(table, key_of(data[3]), now_ns) ==
                   mac_model_find(&model, key_of(data[3]), now_ns));
    }
    return 0;
}
