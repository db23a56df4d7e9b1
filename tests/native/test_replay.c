/* The replay window against what the kernel publishes about its own (the cases that
 * drivers/net/wireguard/selftest/counter.c walks through, written anew), and against a model that
 * remembers every counter.
 */
#include "check.h"
#include "random.h"
#include "session/replay.h"

enum { LIMIT = REPLAY_WINDOW + 1 /* so far ahead, and 0 has left the window by nothing */ };

static struct replay replay;

static void begin(void) {
    memset(&replay, 0, sizeof replay);
}

#define ACCEPTED(counter) CHECK(replay_accept(&replay, (counter)))
#define REJECTED(counter) CHECK(!replay_accept(&replay, (counter)))

/* -- the kernel's cases ------------------------------------------------------------------------ */

static void each_counter_is_accepted_once_in_any_order(void) {
    begin();
    ACCEPTED(0);
    ACCEPTED(1);
    REJECTED(1);
    ACCEPTED(9);
    ACCEPTED(8);
    ACCEPTED(7);
    REJECTED(7);
    ACCEPTED(LIMIT);
    ACCEPTED(LIMIT - 1);
    REJECTED(LIMIT - 1);
    ACCEPTED(LIMIT - 2);
    ACCEPTED(2);
    REJECTED(2);
}

static void the_window_moves_and_what_falls_behind_it_is_rejected(void) {
    begin();
    ACCEPTED(LIMIT);
    REJECTED(0);
    ACCEPTED(1);
    ACCEPTED(LIMIT + 16);
    REJECTED(3);
    REJECTED(16);
    ACCEPTED(17);
    REJECTED(LIMIT + 16);
    ACCEPTED(LIMIT * 4);
    ACCEPTED(LIMIT * 4 - (LIMIT - 1));
    REJECTED(10);
    REJECTED(LIMIT * 4 - LIMIT);
    REJECTED(LIMIT * 4 - (LIMIT + 1));
    ACCEPTED(LIMIT * 4 - (LIMIT - 2));
    REJECTED(LIMIT * 4 + 1 - LIMIT);
    REJECTED(0);
}

static void the_last_counters_are_refused_for_ever(void) {
    begin();
    REJECTED(REJECT_AFTER_MESSAGES);
    ACCEPTED(0); /* a refused counter moves nothing */
    ACCEPTED(REJECT_AFTER_MESSAGES - 1);
    REJECTED(REJECT_AFTER_MESSAGES);
    REJECTED(REJECT_AFTER_MESSAGES - 1);
    ACCEPTED(REJECT_AFTER_MESSAGES - 2);
    REJECTED(REJECT_AFTER_MESSAGES + 1);
    REJECTED(REJECT_AFTER_MESSAGES + 2);
    REJECTED(UINT64_MAX);
    REJECTED(REJECT_AFTER_MESSAGES - 2);
    ACCEPTED(REJECT_AFTER_MESSAGES - 3);
    REJECTED(0);
    CHECK(REJECT_AFTER_MESSAGES == UINT64_MAX - (1 << 13)); /* the whitepaper's 2^64 - 2^13 - 1 */
}

static void accept_upwards(uint64_t first, uint64_t last) {
    begin();
    for (uint64_t counter = first; counter <= last; counter++)
        ACCEPTED(counter);
}

static void accept_downwards(uint64_t first, uint64_t last) {
    begin();
    for (uint64_t counter = first + 1; counter-- > last;)
        ACCEPTED(counter);
}

static void the_oldest_counter_fits_when_the_rest_came_upwards(void) {
    accept_upwards(1, REPLAY_WINDOW);
    ACCEPTED(0);
    REJECTED(0);
    accept_upwards(2, LIMIT);
    ACCEPTED(1);
    REJECTED(0);
}

static void a_whole_window_may_come_downwards(void) {
    accept_downwards(REPLAY_WINDOW, 0);
    accept_downwards(LIMIT, 1);
    REJECTED(0);
    accept_downwards(REPLAY_WINDOW, 1);
    ACCEPTED(LIMIT);
    REJECTED(0);
    accept_downwards(REPLAY_WINDOW, 1);
    ACCEPTED(0);
    ACCEPTED(LIMIT);
    ACCEPTED(LIMIT + 1);
    REJECTED(1);
}

/* -- the model --------------------------------------------------------------------------------- */

enum { N_OPERATIONS = 1000000, MODEL_BITS = 1 << 20 };

/* Every counter of the walk by its distance from where the walk began; nothing is ever
 * forgotten. */
static uint8_t model_seen[MODEL_BITS];

static bool model_accept(uint64_t base, uint64_t *greatest, bool *any, uint64_t counter) {
    if (counter >= REJECT_AFTER_MESSAGES)
        return false;
    if (*any && counter<*greatest && * greatest - counter> REPLAY_WINDOW)
        return false;
    if (model_seen[counter - base] != 0)
        return false;
    model_seen[counter - base] = 1;
    *greatest = *any && *greatest > counter ? *greatest : counter;
    *any = true;
    return true;
}

/* Ahead a little, ahead by whole blocks, seldom by more than the window; else somewhere behind. */
static uint64_t choose(struct random *random, uint64_t base, uint64_t greatest) {
    size_t back;
    switch (random_below(random, 8)) {
    case 0:
    case 1:
        return greatest + random_below(random, 4);
    case 2:
        return greatest + random_below(random, random_below(random, 400) == 0 ? 9000 : 3);
    case 3:
        return greatest + random_below(random, random_below(random, 100) == 0 ? 130 : 2);
    case 4:
        back = REPLAY_WINDOW - 70 + random_below(random, 140);
        break;
    default:
        back = random_below(random, 300);
    }
    return greatest - base > back ? greatest - back : base;
}

static size_t compare_with_model(struct random *random, uint64_t base, size_t n) {
    uint64_t greatest = base;
    bool any = false;
    size_t n_accepted = 0;
    begin();
    memset(model_seen, 0, sizeof model_seen);
    for (size_t i = 0; i < n; i++) {
        uint64_t counter = choose(random, base, greatest);
        CHECK(counter - base < MODEL_BITS);
        bool expected = model_accept(base, &greatest, &any, counter);
        CHECK_EQUAL(replay_accept(&replay, counter), expected);
        n_accepted += expected;
    }
    return n_accepted;
}

static void a_million_random_counters_agree_with_a_naive_model(void) {
    struct random random = {77};
    size_t n_walks = 10, n_accepted = 0;
    for (size_t walk = 0; walk < n_walks; walk++) {
        /* from nothing, from anywhere, and into the end of all counters */
        uint64_t base = walk % 3 == 0 ? 0 : random_next(&random) >> 1;
        if (walk % 3 == 2)
            base = REJECT_AFTER_MESSAGES - 20000;
        n_accepted += compare_with_model(&random, base, N_OPERATIONS / n_walks);
    }
    CHECK(n_accepted > N_OPERATIONS / 5 && n_accepted < N_OPERATIONS * 4 / 5);
}

int main(void) {
    RUN(each_counter_is_accepted_once_in_any_order);
    RUN(the_window_moves_and_what_falls_behind_it_is_rejected);
    RUN(the_last_counters_are_refused_for_ever);
    RUN(the_oldest_counter_fits_when_the_rest_came_upwards);
    RUN(a_whole_window_may_come_downwards);
    RUN(a_million_random_counters_agree_with_a_naive_model);
    return EXIT_SUCCESS;
}
