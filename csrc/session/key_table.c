#include "session/key_table.h"

#include <stdlib.h>
#include <string.h>

static unsigned place_of(uint32_t index) {
    return index % KEY_TABLE_PLACES; /* indices are random: the gateway draws them */
}

struct receiving_key *key_table_find(const struct key_table *table, uint32_t index) {
    for (unsigned place = place_of(index);; place = (place + 1) % KEY_TABLE_PLACES) {
        struct receiving_key *key = table->by_index[place];
        if (key == NULL || key->index == index)
            return key;
    }
}

static void insert(struct key_table *table, struct receiving_key *key) {
    unsigned place = place_of(key->index);
    while (table->by_index[place] != NULL)
        place = (place + 1) % KEY_TABLE_PLACES;
    table->by_index[place] = key;
}

/* Empties the place, and puts those behind it that probing might now miss in anew. */
static void remove_index(struct key_table *table, uint32_t index) {
    unsigned place = place_of(index);
    while (table->by_index[place]->index != index)
        place = (place + 1) % KEY_TABLE_PLACES;
    table->by_index[place] = NULL;
    for (place = (place + 1) % KEY_TABLE_PLACES; table->by_index[place] != NULL;
         place = (place + 1) % KEY_TABLE_PLACES) {
        struct receiving_key *moved = table->by_index[place];
        table->by_index[place] = NULL;
        insert(table, moved);
    }
}

/* What is behind it moves up, so the list has no gaps. */
static void forget_at(struct key_table *table, unsigned slot, unsigned at) {
    struct receiving_key **keys = table->by_slot[slot];
    remove_index(table, keys[at]->index);
    if (keys[at]->mark != NULL)
        replay_mark_end(keys[at]->mark);
    receiving_key_free(keys[at]);
    memmove(&keys[at], &keys[at + 1], (N_RECEIVING_KEYS - 1 - at) * sizeof keys[0]);
    keys[N_RECEIVING_KEYS - 1] = NULL;
}

/* Handshakes that are never finished must not cost the session in use, so unused keys make way
 * first. But a single one may be just in the making: where two handshakes cross, it opens in a
 * moment what the peer seals. */
static void make_room(struct key_table *table, unsigned slot) {
    struct receiving_key **keys = table->by_slot[slot];
    unsigned n_unused = 0, oldest_unused = 0;
    for (unsigned at = N_RECEIVING_KEYS; at-- > 0;) {
        if (keys[at]->is_confirmed)
            continue;
        oldest_unused = at;
        n_unused++;
    }
    forget_at(table, slot, n_unused > 1 ? oldest_unused : 0);
}

static bool is_free(const struct key_table *table, unsigned slot, const struct replay_mark *mark) {
    for (unsigned at = 0; at < N_RECEIVING_KEYS && table->by_slot[slot][at] != NULL; at++)
        if (table->by_slot[slot][at]->mark == mark)
            return false;
    return true;
}

/* Goes on from the mark that a predecessor has left; else takes one that no key has. */
static void give_mark(struct key_table *table, struct receiving_key *key) {
    if (table->marks == NULL)
        return;
    key->mark = replay_marks_find(table->marks, key->slot, key->index);
    if (key->mark != NULL) {
        uint64_t next = replay_mark_next(key->mark);
        receiving_key_use_up(key, next);
        key->is_confirmed = next > 0;
        return;
    }
    key->mark = table->marks->of_slot[key->slot];
    while (!is_free(table, key->slot, key->mark))
        key->mark++;
    replay_mark_begin(key->mark, key->index);
}

struct receiving_key *key_table_add(struct key_table *table, unsigned slot, uint32_t index) {
    struct receiving_key *key = key_table_find(table, index);
    if (key != NULL)
        return key->slot == slot ? key : NULL;
    key = calloc(1, sizeof *key);
    if (key == NULL)
        return NULL;
    key->index = index;
    key->slot = slot;
    if (table->by_slot[slot][N_RECEIVING_KEYS - 1] != NULL)
        make_room(table, slot);
    unsigned at = 0;
    while (table->by_slot[slot][at] != NULL)
        at++;
    give_mark(table, key);
    table->by_slot[slot][at] = key;
    insert(table, key);
    return key;
}

struct receiving_key *key_table_take_over(struct key_table *table, unsigned slot, uint32_t index) {
    bool has_mark = table->marks != NULL && replay_marks_find(table->marks, slot, index) != NULL;
    return has_mark ? key_table_add(table, slot, index) : NULL;
}

void key_table_forget_empty(struct key_table *table, struct receiving_key *key) {
    unsigned at = 0;
    if (!receiving_key_is_empty(key) || key->replay.next > 0)
        return;
    while (table->by_slot[key->slot][at] != key)
        at++;
    forget_at(table, key->slot, at);
}

void key_table_forget_slot(struct key_table *table, unsigned slot) {
    while (table->by_slot[slot][0] != NULL)
        forget_at(table, slot, 0);
}

void key_table_outdate(struct key_table *table, unsigned slot, uint32_t index) {
    struct receiving_key *newer = key_table_find(table, index);
    if (newer == NULL || newer->slot != slot)
        return;
    for (unsigned at = 0; table->by_slot[slot][at] != newer; at++)
        table->by_slot[slot][at]->is_outdated = true;
}
