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

static int64_t between(int64_t low, int64_t n, int64_t high) {
    return n < low ? low : n > high ? high : n;
}

static int64_t ns_to_leave(const struct uplink *uplink, int64_t n_bytes) {
    return n_bytes * 1000000 / (int64_t)(uplink->rate / 1000 + 1);
}

static void set_unsent(struct uplink *uplink, uint64_t n_unsent) {
    uplink->n_stuck = least(uplink->n_stuck, n_unsent);
    uplink->n_unsent = n_unsent;
}

bool uplink_is_full(struct uplink *uplink, uint64_t n_unsent, uint64_t n_handed, uint64_t now_ns) {
    uint64_t n_before = uplink->n_unsent, elapsed_ns = now_ns - uplink->looked_ns;
    uint64_t rate = rate_of(beyond(n_before + n_handed, n_unsent), elapsed_ns);
    set_unsent(uplink, n_unsent);
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
    uplink->n_looked = n_unsent;
    uplink->begun_ns = uplink->moved_ns = uplink->dry_ns = now_ns;
    uplink->n_handed = uplink->n_measured = 0;
    uplink->has_probe = true;
    uplink->n_left = uplink->n_left_since_dry = uplink->idle_ns = 0;
    return now_ns - uplink->since_ns >= UPLINK_FULL_MS * (uint64_t)NS_PER_MS;
}

/* While the kernel had something all the time, what left says how fast it leaves; else it says only
 * that it leaves no slower. As little as one datagram at a time says only how fast it was given; so
 * first, and now and then, the kernel has more for a while, and for longer if the uplink has become faster. */
static void set_rate(struct uplink *uplink, uint64_t rate) {
    bool is_faster = uplink->ran_dry && rate > uplink->rate + uplink->rate / 8;
    if (!uplink->ran_dry)
        uplink->rate = (uplink->rate * 3 + rate) / 4;
    else if (is_faster)
        uplink->rate = (uplink->rate + rate) / 2;
    uplink->n_measured++;
    uplink->has_probe = is_faster || uplink->n_measured < UPLINK_PROBE_EVERY ||
                        uplink->n_measured % UPLINK_PROBE_EVERY == 0;
}

/* The time that may be lost: a small part, and the more the longer the queue has become for it. Where the
 * worker waits for a processor, there is no end to how much queue each percent of goodput takes. */
static uint64_t worth_ns(const struct uplink *uplink, uint64_t elapsed_ns) {
    uint64_t free_ns = UPLINK_WAIT_MIN_NS + (uint64_t)ns_to_leave(uplink, 2 * UPLINK_DATAGRAM);
    uint64_t wait_us = beyond(uplink->wait_ns, free_ns) / 1000;
    return elapsed_ns / UPLINK_IDLE_PART + elapsed_ns * wait_us / UPLINK_WORTH_ALL_US;
}

/* More if more time was lost than that, and else less. */
static void set_wait(struct uplink *uplink, uint64_t elapsed_ns) {
    int64_t too_long_ns = uplink->idle_ns - (int64_t)worth_ns(uplink, elapsed_ns);
    uplink->wait_ns = (uint64_t)between(
        UPLINK_WAIT_MIN_NS, (int64_t)uplink->wait_ns + too_long_ns / 8, UPLINK_WAIT_MAX_NS);
}

/* Few packets on a slow uplink say little; and what does not leave at all says nothing until something
 * does: it may be one peer's alone. */
static bool is_measured(const struct uplink *uplink, uint64_t elapsed_ns) {
    if (uplink->n_left < UPLINK_MEASURE_BYTES && elapsed_ns < UPLINK_MEASURE_MAX_NS)
        return false;
    return elapsed_ns >= UPLINK_MEASURE_NS && (uplink->n_left > 0 || uplink->ran_dry);
}

static void begin_to_measure(struct uplink *uplink, uint64_t now_ns) {
    uplink->begun_ns = now_ns;
    uplink->n_left = uplink->idle_ns = 0;
    uplink->ran_dry = false;
}

static void measure(struct uplink *uplink, uint64_t now_ns) {
    uint64_t elapsed_ns = now_ns - uplink->begun_ns;
    if (!is_measured(uplink, elapsed_ns))
        return;
    set_rate(uplink, rate_of((uint64_t)between(0, uplink->n_left, INT64_MAX), elapsed_ns));
    set_wait(uplink, elapsed_ns);
    uplink->n_stuck -= uplink->n_stuck / 256; /* half of it in 1.4 s, or it would stay for good */
    begin_to_measure(uplink, now_ns);
}

/* For how long the kernel had nothing while there was something to send: what the bytes that have left
 * since it last had nothing did not need. Where a shaper has saved up for that time they have left faster:
 * then it has cost nothing, and is taken off. Of a long pause no more counts than a queue that is somewhat
 * longer would have made up for. */
static void count_idle(struct uplink *uplink, bool has_more, uint64_t now_ns) {
    int64_t since_dry_ns = (int64_t)(now_ns - uplink->dry_ns);
    int64_t idle_ns = since_dry_ns - ns_to_leave(uplink, uplink->n_left_since_dry);
    int64_t most_ns = (int64_t)uplink->wait_ns + UPLINK_PAUSE_NS;
    int64_t low = since_dry_ns < UPLINK_MEASURE_NS ? -most_ns : 0;
    uint64_t high = least(now_ns - uplink->looked_ns, (uint64_t)most_ns);
    if (has_more)
        uplink->idle_ns += between(low, idle_ns, (int64_t)high);
    uplink->dry_ns = now_ns;
    uplink->n_left_since_dry = 0;
}

/* The limit leaves in a known time, if it does. A peer's packets that wait in vain, say for a
 * neighbour that does not answer, come with each turn; so all others lose this time once a limit. */
static uint64_t stuck_after_ns(const struct uplink *uplink) {
    int64_t limit_ns = ns_to_leave(uplink, (int64_t)uplink_limit(uplink) + UPLINK_DATAGRAM);
    return least(UPLINK_STUCK_MIN_NS + 4 * (uint64_t)limit_ns, UPLINK_STUCK_MAX_NS);
}

static void note_moved(struct uplink *uplink, bool has_moved, uint64_t now_ns) {
    if (!has_moved && uplink_room(uplink) == 0) {
        if (now_ns - uplink->moved_ns <= stuck_after_ns(uplink))
            return;
        uplink->n_stuck = uplink->n_unsent; /* what is handed over now has its time as well */
        begin_to_measure(uplink, now_ns);   /* the wait says nothing of the rate */
    }
    uplink->moved_ns = now_ns;
}

void uplink_look(struct uplink *uplink, uint64_t n_unsent, bool has_more, uint64_t now_ns) {
    int64_t n_left = (int64_t)(uplink->n_looked + uplink->n_handed) - (int64_t)n_unsent;
    bool has_moved = n_unsent < uplink->n_unsent, is_dry = n_unsent <= uplink->n_stuck;
    set_unsent(uplink, n_unsent);
    note_moved(uplink, has_moved, now_ns);
    uplink->n_looked = n_unsent;
    uplink->n_handed = 0;
    uplink->n_left += n_left;
    uplink->n_left_since_dry += n_left;
    uplink->ran_dry |= is_dry;
    if (is_dry)
        count_idle(uplink, has_more, now_ns);
    if (n_left > 0 || is_dry)
        measure(uplink, now_ns);
    uplink->looked_ns = now_ns;
}

void uplink_handed(struct uplink *uplink, uint64_t n_bytes, uint64_t n_unsent) {
    uplink->n_handed += n_bytes;
    set_unsent(uplink, n_unsent);
}

/* Never nothing: then one datagram is handed over whenever the last one has left. Some more beside what
 * is stuck: each limit that gets stuck as well costs time. */
uint64_t uplink_limit(const struct uplink *uplink) {
    uint64_t n = uplink->rate / 1000 * (uplink->wait_ns / 1000) / 1000 + 1;
    if (!uplink->has_probe && uplink->n_stuck == 0)
        return n;
    n += n / 2;
    return n > UPLINK_PROBE_MIN ? n : UPLINK_PROBE_MIN;
}

uint64_t uplink_room(const struct uplink *uplink) {
    return beyond(uplink_limit(uplink), uplink->n_unsent - uplink->n_stuck);
}

uint64_t uplink_room_for_first(const struct uplink *uplink) {
    return beyond(uplink_limit(uplink) + UPLINK_FIRST, uplink->n_unsent - uplink->n_stuck);
}

/* Until half of the limit has left, or as much as makes room for a datagram. */
uint64_t uplink_sleep_ns(const struct uplink *uplink) {
    uint64_t limit = uplink_limit(uplink);
    uint64_t n_to_stay = least(limit / 2, beyond(limit, UPLINK_DATAGRAM));
    uint64_t n_to_leave = beyond(uplink->n_unsent - uplink->n_stuck, n_to_stay);
    int64_t ns = uplink->rate == 0 ? UPLINK_SLEEP_MAX_NS : ns_to_leave(uplink, (int64_t)n_to_leave);
    ns -= (int64_t)(uplink->looked_ns - uplink->moved_ns);
    return (uint64_t)between(UPLINK_SLEEP_MIN_NS, ns, UPLINK_SLEEP_MAX_NS);
}
