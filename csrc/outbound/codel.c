#include "outbound/codel.h"

enum {
    /* Dropping that begins again so soon goes on nearly where it stopped (RFC 8289 5.6). */
    REMEMBERED_INTERVALS = 16,
};

static uint64_t square_root(uint64_t n) {
    uint64_t root = 1;
    while ((root + 1) * (root + 1) <= n)
        root++;
    return root;
}

/* interval / sqrt(n), with two more digits of the root. */
static uint64_t next_gap_ns(uint32_t n_drops) {
    enum { DIGITS = 100 };
    uint64_t n = n_drops < 10000 ? n_drops : 10000;
    return (uint64_t)CODEL_INTERVAL_NS * DIGITS / square_root(n * DIGITS * DIGITS);
}

static void begin(struct codel *codel, uint64_t now_ns) {
    bool is_again =
        now_ns - codel->drop_next_ns < (uint64_t)REMEMBERED_INTERVALS * CODEL_INTERVAL_NS;
    codel->n_drops = is_again && codel->n_drops > 2 ? codel->n_drops - 2 : 1;
    codel->is_dropping = true;
    codel->drop_next_ns = now_ns + next_gap_ns(codel->n_drops);
}

static bool is_due(struct codel *codel, uint64_t delay_ns, uint64_t now_ns) {
    if (delay_ns < CODEL_TARGET_NS) {
        codel->above_since_ns = 0;
        codel->is_dropping = false;
        return false;
    }
    if (codel->above_since_ns == 0)
        codel->above_since_ns = now_ns;
    if (!codel->is_dropping) {
        if (now_ns - codel->above_since_ns < CODEL_INTERVAL_NS)
            return false;
        begin(codel, now_ns);
        return true;
    }
    if (now_ns < codel->drop_next_ns)
        return false;
    codel->n_drops++;
    codel->drop_next_ns += next_gap_ns(codel->n_drops);
    return true;
}

bool codel_should_drop(struct codel *codel, uint64_t delay_ns, uint64_t now_ns) {
    codel->has_dropped = !codel->has_dropped && is_due(codel, delay_ns, now_ns);
    return codel->has_dropped;
}
