#include "outbound/parking.h"

#include <stdlib.h>

struct staging *staging_new(void) {
    struct staging *staging = calloc(1, sizeof *staging);
    if (staging != NULL)
        staging->pool.max = STAGED_POOL_BYTES;
    return staging;
}

void staging_free(struct staging *staging) {
    for (unsigned i = 0; staging != NULL && i < staging->n; i++)
        link_queue_free(&staging->peers[i].queue);
    free(staging);
}

int staging_find(const struct staging *staging, unsigned slot) {
    for (unsigned i = 0; i < staging->n; i++)
        if (staging->peers[i].slot == slot)
            return (int)i;
    return -1;
}

static bool has_place(const struct staging *staging, int origin) {
    unsigned n_of_origin = 0;
    for (unsigned i = 0; i < staging->n; i++)
        n_of_origin += staging->peers[i].origin == origin;
    return staging->n < STAGED_PEERS_MAX &&
           n_of_origin < (origin < 0 ? STAGED_FOR_US_MAX : STAGED_FOR_A_PEER_MAX);
}

static struct staged_peer *add_peer(struct staging *staging, unsigned slot, int origin) {
    struct staged_peer *peer = &staging->peers[staging->n];
    if (!has_place(staging, origin) || link_queue_init(&peer->queue, &staging->pool) < 0)
        return NULL;
    peer->slot = slot;
    peer->origin = origin;
    staging->n++;
    return peer;
}

bool staging_append(struct staging *staging, unsigned slot, int origin,
                    const struct queue_entry *entry, const uint8_t *bytes) {
    int found = staging_find(staging, slot);
    struct staged_peer *peer =
        found >= 0 ? &staging->peers[found] : add_peer(staging, slot, origin);
    return peer != NULL && link_queue_append(&peer->queue, entry, bytes);
}

void staging_peek(struct staging *staging, unsigned i, struct queue_entry *entry,
                  const uint8_t **bytes) {
    *bytes = link_queue_first(&staging->peers[i].queue, entry);
}

void staging_take(struct staging *staging, unsigned i) {
    struct queue_entry entry;
    struct link_queue *queue = &staging->peers[i].queue;
    link_queue_take(queue, &entry);
    if (!link_queue_is_empty(queue))
        return;
    link_queue_free(queue);
    staging->peers[i] = staging->peers[--staging->n];
}
