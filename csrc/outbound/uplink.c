#include "outbound/uplink.h"

#include "shared/clock.h"

static uint64_t rate_of(uint64_t n_bytes, uint64_t ns) {
    return ns == 0 ? 0 : n_bytes * 1000000 / (ns / 1000 + 1);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t beyond(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

void uplink_set_unsent(struct uplink *uplink, uint64_t n_unsent) {
    uplink->n_stuck = least(uplink->n_stuck, n_unsent);
    uplink->n_unsent = n_unsent;
}

bool uplink_is_full(struct uplink *uplink, uint64_t n_unsent, uint64_t n_handed, uint64_t now_ns) {
    uint64_t n_before = uplink->n_unsent, elapsed_ns = now_ns - uplink->looked_ns;
    uint64_t rate = rate_of(beyond(n_before + n_handed, n_unsent), elapsed_ns);
    uplink_set_unsent(uplink, n_unsent);
    uint64_t n_waited = beyond(least(n_before, n_unsent), uplink->n_stuck);
    bool has_waited = n_waited >= UPLINK_QUEUE_MIN && n_waited > rate * UPLINK_DELAY_MS / 1000;
    uplink->looked_ns = now_ns;
    if (!has_waited) {
        uplink->since_ns = 0;
        return false;
    }
    if (uplink->since_ns == 0)
        uplink->since_ns = now_ns - elapsed_ns;
    uplink->rate = rate;
    uplink->wait_ns = UPLINK_WAIT_FIRST_NS;
    uplink->begun_ns = uplink->moved_ns = now_ns;
    uplink->n_left = 0;
    return now_ns - uplink->since_ns >= UPLINK_FULL_MS * (uint64_t)NS_PER_MS;
}

/* While the kernel had something all the time, what left says how fast it leaves; else it says only
 * that it leaves no slower. What does not leave at all says nothing until something does: it may be
 * one peer's alone. */
static void measure(struct uplink *uplink, uint64_t now_ns) {
    uint64_t elapsed_ns = now_ns - uplink->begun_ns;
    if (elapsed_ns < UPLINK_MEASURE_NS || (uplink->n_left == 0 && !uplink->ran_dry))
        return;
    uint64_t rate = rate_of(uplink->n_left, elapsed_ns);
    if (!uplink->ran_dry)
        uplink->rate = (uplink->rate * 7 + rate) / 8;
    else if (rate > uplink->rate)
        uplink->rate = rate;
    uplink->n_stuck -= uplink->n_stuck / 1024; /* half of it in 1.4 s, or it would stay for good */
    uplink->begun_ns = now_ns;
    uplink->n_left = 0;
    uplink->ran_dry = false;
}

/* The limit leaves in a known time, if it does. A peer's packets that wait in vain, say for a
 * neighbour that does not answer, come with each turn; so all others lose this time once a limit. */
static uint64_t stuck_after_ns(const struct uplink *uplink) {
    uint64_t limit_ns = uplink_limit(uplink) * 1000000 / (uplink->rate / 1000 + 1);
    return least(UPLINK_STUCK_MIN_NS + 4 * limit_ns, UPLINK_STUCK_MAX_NS);
}

void uplink_look(struct uplink *uplink, uint64_t n_unsent, bool has_more, uint64_t now_ns) {
    uint64_t n_left = beyond(uplink->n_unsent, n_unsent);
    uplink_set_unsent(uplink, n_unsent);
    if (n_left > 0 || uplink_room(uplink) > 0)
        uplink->moved_ns = now_ns;
    else if (now_ns - uplink->moved_ns > stuck_after_ns(uplink)) {
        uplink->n_stuck = n_unsent;
        uplink->moved_ns = now_ns; /* what is handed over now has its time as well */
    }
    bool is_dry = n_unsent == uplink->n_stuck;
    uplink->n_left += n_left;
    uplink->ran_dry |= is_dry;
    measure(uplink, now_ns);
    if (is_dry && has_more && n_left > 0)
        uplink->wait_ns = least(uplink->wait_ns * 5 / 4, UPLINK_WAIT_MAX_NS);
    else if (!is_dry && uplink->wait_ns > UPLINK_WAIT_MIN_NS)
        uplink->wait_ns -= uplink->wait_ns / 256;
    uplink->looked_ns = now_ns;
}

uint64_t uplink_limit(const struct uplink *uplink) {
    uint64_t n = uplink->rate / 1000 * (uplink->wait_ns / 1000) / 1000;
    return n > UPLINK_LIMIT_MIN ? n : UPLINK_LIMIT_MIN;
}

uint64_t uplink_room(const struct uplink *uplink) {
    return beyond(uplink_limit(uplink), uplink->n_unsent - uplink->n_stuck);
}

uint64_t uplink_sleep_ns(const struct uplink *uplink) {
    uint64_t n = beyond(uplink->n_unsent - uplink->n_stuck, uplink_limit(uplink) / 2);
    uint64_t ns = uplink->rate == 0 ? UPLINK_SLEEP_MAX_NS : n * 1000000 / (uplink->rate / 1000 + 1);
    ns = least(ns, UPLINK_SLEEP_MAX_NS);
    return ns > UPLINK_SLEEP_MIN_NS ? ns : UPLINK_SLEEP_MIN_NS;
}
