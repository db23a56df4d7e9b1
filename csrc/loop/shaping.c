#define _GNU_SOURCE
#include "loop/shaping.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "packet/gso.h"
#include "shared/clock.h"

/* -- limits ------------------------------------------------------------------------------------ */

void shaping_init(struct shaping *shaping) {
    shaping->pool.max = SHAPING_POOL_BYTES;
}

static void forget(struct shaping *shaping, unsigned slot) {
    if (shaping->shapers[slot] == NULL)
        return;
    link_queue_free(&shaping->shapers[slot]->queue);
    free(shaping->shapers[slot]);
    shaping->shapers[slot] = NULL;
}

void shaping_free(struct shaping *shaping) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        forget(shaping, slot);
}

static struct shaper *add(struct shaping *shaping, unsigned slot) {
    struct shaper *shaper = calloc(1, sizeof *shaper);
    if (shaper == NULL)
        return NULL;
    if (link_queue_init(&shaper->queue, &shaping->pool) < 0) {
        free(shaper);
        return NULL;
    }
    shaping->shapers[slot] = shaper;
    return shaper;
}

static uint64_t burst_of(const struct rate_limit *limit, uint64_t burst_bytes) {
    const uint64_t least_ns = SHAPED_BURST_MS_MIN * (uint64_t)NS_PER_MS;
    uint64_t burst_ns = rate_limit_ns(limit, burst_bytes);
    return burst_ns > least_ns ? burst_ns : least_ns;
}

int shaping_set(struct shaping *shaping, unsigned slot, uint64_t rate, uint64_t burst_bytes,
                bool is_cut_off) {
    struct shaper *shaper = shaping->shapers[slot];
    if (rate == 0 && !is_cut_off && (shaper == NULL || link_queue_is_empty(&shaper->queue))) {
        forget(shaping, slot);
        return 0;
    }
    if (shaper == NULL)
        shaper = add(shaping, slot);
    if (shaper == NULL)
        return -ENOMEM;
    shaper->is_cut_off = is_cut_off;
    struct rate_limit limit = {.rate = rate};
    if (rate > 0)
        limit.burst_ns = burst_of(&limit, burst_bytes);
    /* What is owed was counted at another rate; a new limit begins with a full burst. */
    if (limit.rate != shaper->limit.rate || limit.burst_ns != shaper->limit.burst_ns)
        shaper->limit = limit;
    return 0;
}

/* -- a frame comes ----------------------------------------------------------------------------- */

static uint64_t held_max(const struct shaper *shaper) {
    uint64_t most = shaper->limit.rate * SHAPED_WAIT_MS / 1000;
    return most > SHAPED_WAIT_BYTES_MIN ? most : SHAPED_WAIT_BYTES_MIN;
}

/* Has a frame wait. false: there is no room. A frame that waits alone may be of any length. */
static bool hold(struct shaping *shaping, unsigned slot, const struct queue_entry *entry,
                 const uint8_t *bytes) {
    struct shaper *shaper = shaping->shapers[slot];
    bool is_first = link_queue_is_empty(&shaper->queue);
    if (!is_first && shaper->limit.rate != 0 &&
        shaper->held_bytes + entry->n_bytes > held_max(shaper))
        return false;
    if (!link_queue_append(&shaper->queue, entry, bytes))
        return false;
    if (is_first)
        shaping->holding[shaping->n_holding++] = (uint16_t)slot;
    shaper->held_bytes += entry->n_bytes;
    return true;
}

/* The segments wait one by one, each a complete packet. */
static struct shaped hold_cut(struct shaping *shaping, unsigned slot, const struct vnet *vnet,
                              const uint8_t *frame, size_t length, uint64_t now_ns) {
    struct shaped shaped = {0};
    struct gso_split split;
    int n = gso_split_begin(&split, vnet, frame, length);
    memset(shaping->segment, 0, VNET_LENGTH);
    for (int i = 0; i < n; i++) {
        size_t segment = gso_segment_length(&split, i);
        struct queue_entry entry = {
            .length = (uint32_t)(VNET_LENGTH + segment),
            .n_packets = 1,
            .n_bytes = (uint32_t)segment,
            .enqueued_ns = now_ns,
        };
        gso_write_segment(&split, i, shaping->segment + VNET_LENGTH);
        if (hold(shaping, slot, &entry, shaping->segment))
            continue;
        shaped.n_dropped++;
        shaped.dropped_bytes += segment;
    }
    return shaped;
}

static bool takes_long(const struct shaper *shaper, uint64_t n_bytes) {
    return shaper->limit.rate != 0 &&
           rate_limit_ns(&shaper->limit, n_bytes) > SHAPED_FRAME_MS * (uint64_t)NS_PER_MS;
}

struct shaped shaping_take(struct shaping *shaping, unsigned slot, enum mode mode,
                           const uint8_t *vnet_bytes, size_t length, uint64_t now_ns) {
    struct shaper *shaper = shaping->shapers[slot];
    struct vnet vnet;
    /* A header that does not fit its frame is for those that drop it to say. */
    int n = message_check_own(mode, &vnet, vnet_bytes, length);
    uint32_t n_packets = n > 1 ? (uint32_t)n : 1;
    uint64_t n_bytes = length + (n_packets - 1) * (uint64_t)vnet.hdr_len;
    if (shaper->is_cut_off)
        return (struct shaped){false, true, n_packets, length};
    bool is_cut = n > 1 && takes_long(shaper, n_bytes);
    if (!is_cut && link_queue_is_empty(&shaper->queue) &&
        rate_limit_allows(&shaper->limit, now_ns)) {
        rate_limit_charge(&shaper->limit, n_bytes, now_ns);
        return (struct shaped){.passes = true};
    }
    if (is_cut)
        return hold_cut(shaping, slot, &vnet, vnet_bytes + VNET_LENGTH, length, now_ns);
    struct queue_entry entry = {
        .length = (uint32_t)(VNET_LENGTH + length),
        .n_packets = n_packets,
        .n_bytes = (uint32_t)n_bytes,
        .enqueued_ns = now_ns,
    };
    return hold(shaping, slot, &entry, vnet_bytes)
               ? (struct shaped){0}
               : (struct shaped){false, false, n_packets, length};
}

/* -- a frame goes on --------------------------------------------------------------------------- */

bool shaping_first(const struct shaping *shaping, unsigned i, uint64_t now_ns,
                   struct queue_entry *entry, const uint8_t **bytes) {
    const struct shaper *shaper = shaping->shapers[shaping->holding[i]];
    if (!rate_limit_allows(&shaper->limit, now_ns))
        return false;
    *bytes = link_queue_first(&shaper->queue, entry);
    return true;
}

void shaping_pop(struct shaping *shaping, unsigned i, uint64_t now_ns) {
    struct shaper *shaper = shaping->shapers[shaping->holding[i]];
    struct queue_entry entry;
    link_queue_pop(&shaper->queue, &entry);
    shaper->held_bytes -= entry.n_bytes;
    rate_limit_charge(&shaper->limit, entry.n_bytes, now_ns);
    if (!link_queue_is_empty(&shaper->queue))
        return;
    link_queue_rest(&shaper->queue, now_ns);
    shaping->holding[i] = shaping->holding[--shaping->n_holding];
}

uint64_t shaping_empty(struct shaping *shaping, unsigned slot, uint64_t now_ns, uint64_t *n_bytes) {
    uint64_t n_packets = 0;
    struct queue_entry entry;
    *n_bytes = 0;
    for (unsigned i = 0; i < shaping->n_holding; i++)
        while (i < shaping->n_holding && shaping->holding[i] == slot) {
            link_queue_first(&shaping->shapers[slot]->queue, &entry);
            n_packets += entry.n_packets;
            *n_bytes += entry.length - VNET_LENGTH;
            shaping_pop(shaping, i, now_ns);
        }
    return n_packets;
}

int shaping_wait_ms(const struct shaping *shaping, uint64_t now_ns) {
    uint64_t first_ns = UINT64_MAX;
    for (unsigned i = 0; i < shaping->n_holding; i++) {
        const struct rate_limit *limit = &shaping->shapers[shaping->holding[i]]->limit;
        uint64_t paid_ns = limit->rate == 0 ? 0 : limit->paid_ns;
        first_ns = paid_ns < first_ns ? paid_ns : first_ns;
    }
    uint64_t wait_ms = first_ns > now_ns ? (first_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 1;
    return wait_ms < INT_MAX ? (int)wait_ms : INT_MAX;
}
