/* The table of receiving keys against a list that is searched from one end to the other. The
 * indices are few and fall on few places, so that probing is the rule and not the exception. */
#include "check.h"
#include "session/key_table.h"
#include "random.h"

enum {
    N_SLOTS = 5,
    N_PLACES = 8, /* on either side of the table's end */
    N_TURNS = 3,  /* indices a place */
    N_INDICES = N_PLACES * N_TURNS,
    N_KEYS_MAX = N_SLOTS * N_RECEIVING_KEYS,
};

static struct key_table table;

/* In the order of age. */
static struct known {
    uint32_t index;
    unsigned slot;
    bool is_confirmed;
} known[N_KEYS_MAX + 1];
static size_t n_known;

static uint32_t index_of(size_t i) {
    uint32_t place = (uint32_t)(KEY_TABLE_PLACES - N_PLACES / 2 + i % N_PLACES) % KEY_TABLE_PLACES;
    return (uint32_t)(i / N_PLACES) * 1000 * KEY_TABLE_PLACES + place;
}

static struct known *find_known(uint32_t index) {
    for (size_t i = 0; i < n_known; i++)
        if (known[i].index == index)
            return &known[i];
    return NULL;
}

static void forget_known(struct known *gone) {
    n_known--;
    memmove(gone, gone + 1, (size_t)(known + n_known - gone) * sizeof *gone);
}

static void make_room(unsigned slot) {
    struct known *unused = NULL, *oldest = NULL;
    size_t n = 0, n_unused = 0;
    for (size_t i = n_known; i-- > 0;) {
        if (known[i].slot != slot)
            continue;
        n++;
        oldest = &known[i];
        unused = known[i].is_confirmed ? unused : &known[i];
        n_unused += !known[i].is_confirmed;
    }
    if (n == N_RECEIVING_KEYS)
        forget_known(n_unused > 1 ? unused : oldest);
}

/* -- the operations ---------------------------------------------------------------------------- */

static void check_all(void) {
    for (size_t i = 0; i < N_INDICES; i++) {
        const struct receiving_key *key = key_table_find(&table, index_of(i));
        const struct known *expected = find_known(index_of(i));
        CHECK_EQUAL(key != NULL, expected != NULL);
        if (key == NULL)
            continue;
        CHECK_EQUAL(key->index, expected->index);
        CHECK_EQUAL(key->slot, expected->slot);
        CHECK_EQUAL(key->is_confirmed, expected->is_confirmed);
    }
}

static void add(unsigned slot, uint32_t index) {
    struct known *there = find_known(index);
    struct receiving_key *before = key_table_find(&table, index);
    struct receiving_key *key = key_table_add(&table, slot, index);
    if (there != NULL) {
        CHECK(key == (there->slot == slot ? before : NULL));
        return;
    }
    CHECK(key != NULL && !key->is_confirmed);
    make_room(slot);
    known[n_known++] = (struct known){.index = index, .slot = slot};
}

static void confirm(uint32_t index) {
    struct receiving_key *key = key_table_find(&table, index);
    if (key == NULL)
        return;
    key->is_confirmed = true;
    find_known(index)->is_confirmed = true;
}

static void forget_slot(unsigned slot) {
    key_table_forget_slot(&table, slot);
    for (size_t i = n_known; i-- > 0;)
        if (known[i].slot == slot)
            forget_known(&known[i]);
}

/* -- claims ------------------------------------------------------------------------------------ */

static void it_holds_what_a_plain_list_would(void) {
    struct random random = {11};
    for (int step = 0; step < 200000; step++) {
        uint32_t index = index_of(random_below(&random, N_INDICES));
        unsigned slot = (unsigned)random_below(&random, N_SLOTS);
        size_t what = random_below(&random, 32);
        if (what == 0)
            forget_slot(slot);
        else if (what < 8)
            confirm(index);
        else
            add(slot, index);
        check_all();
    }
    for (unsigned slot = 0; slot < N_SLOTS; slot++)
        forget_slot(slot);
    check_all();
    for (size_t place = 0; place < KEY_TABLE_PLACES; place++)
        CHECK(table.by_index[place] == NULL);
}

static void every_peer_can_have_all_its_keys(void) {
    struct random random = {12};
    static uint32_t indices[N_PEER_SLOTS * N_RECEIVING_KEYS];
    const size_t n = sizeof indices / sizeof *indices;
    for (size_t i = 0; i < n; i++) {
        indices[i] = (uint32_t)random_next(&random);
        CHECK(key_table_add(&table, (unsigned)(i % N_PEER_SLOTS), indices[i]) != NULL);
    }
    for (size_t i = 0; i < n; i++)
        CHECK_EQUAL(key_table_find(&table, indices[i])->slot, i % N_PEER_SLOTS);
    CHECK(key_table_find(&table, (uint32_t)random_next(&random)) == NULL);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        key_table_forget_slot(&table, slot);
    for (size_t i = 0; i < n; i++)
        CHECK(key_table_find(&table, indices[i]) == NULL);
}

int main(void) {
    RUN(it_holds_what_a_plain_list_would);
    RUN(every_peer_can_have_all_its_keys);
    return EXIT_SUCCESS;
}
