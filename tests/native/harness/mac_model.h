/* mac_model: what csrc/shared/mac_table.h promises, as a list that is walked from end to end. */
#ifndef MAC_MODEL_H
#define MAC_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "shared/mac_table.h"

enum { MAC_MODEL_MAX = 8 * MACS_PER_OWNER };

/* Not older than this is a mark that is not renewed. */
#define MAC_MODEL_REFRESH_NS 125000000ull

struct mac_model {
    size_t n;
    struct {
        uint64_t key, seen_ns;
        int owner;
    } entries[MAC_MODEL_MAX];
};

static inline size_t mac_model_entry(const struct mac_model *model, uint64_t key, bool is_local) {
    size_t i = 0;
    while (i < model->n && (model->entries[i].key != key ||
                            (model->entries[i].owner == MAC_OWNER_LOCAL) != is_local))
        i++;
    return i;
}

static inline uint64_t mac_model_seen(const struct mac_model *model, size_t i, uint64_t now_ns) {
    bool is_fresh = i < model->n && now_ns < model->entries[i].seen_ns + MAC_AGE_NS;
    return is_fresh ? model->entries[i].seen_ns : 0;
}

static inline int mac_model_find(const struct mac_model *model, uint64_t key, uint64_t now_ns) {
    size_t peer = mac_model_entry(model, key, false), local = mac_model_entry(model, key, true);
    uint64_t peer_ns = mac_model_seen(model, peer, now_ns);
    uint64_t local_ns = mac_model_seen(model, local, now_ns);
    if (peer_ns == 0 && local_ns == 0)
        return MAC_OWNER_UNKNOWN;
    return peer_ns > local_ns ? model->entries[peer].owner : MAC_OWNER_LOCAL;
}

static inline void mac_model_remove(struct mac_model *model, size_t i) {
    model->entries[i] = model->entries[--model->n];
}

static inline size_t mac_model_count(const struct mac_model *model, int owner) {
    size_t n = 0;
    for (size_t i = 0; i < model->n; i++)
        n += model->entries[i].owner == owner;
    return n;
}

static inline void mac_model_remove_oldest(struct mac_model *model, int owner) {
    size_t oldest = model->n;
    for (size_t i = 0; i < model->n; i++)
        if (model->entries[i].owner == owner &&
            (oldest == model->n || model->entries[i].seen_ns < model->entries[oldest].seen_ns))
            oldest = i;
    mac_model_remove(model, oldest);
}

static inline void mac_model_learn(struct mac_model *model, int owner, uint64_t key,
                                   uint64_t now_ns, bool may_move) {
    int before = mac_model_find(model, key, now_ns);
    size_t i = mac_model_entry(model, key, owner == MAC_OWNER_LOCAL);
    if (before == owner) {
        if (now_ns > model->entries[i].seen_ns + MAC_MODEL_REFRESH_NS)
            model->entries[i].seen_ns = now_ns;
        return;
    }
    if (before != MAC_OWNER_UNKNOWN && !may_move)
        return;
    if (i < model->n && model->entries[i].owner == owner) {
        model->entries[i].seen_ns = now_ns;
        return;
    }
    if (i < model->n)
        mac_model_remove(model, i);
    if (mac_model_count(model, owner) == MACS_PER_OWNER)
        mac_model_remove_oldest(model, owner);
    model->entries[model->n].key = key;
    model->entries[model->n].seen_ns = now_ns;
    model->entries[model->n++].owner = owner;
}

static inline void mac_model_forget(struct mac_model *model, int owner) {
    for (size_t i = model->n; i-- > 0;)
        if (model->entries[i].owner == owner)
            mac_model_remove(model, i);
}

#endif
