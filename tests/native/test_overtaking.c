/* overtaking: which frames go before those that wait, and how many. */
#include "outbound/overtaking.h"

#include "check.h"
#include "random.h"

enum { PING = 1, BULK = 2, CALL = 3, UNKNOWN = 0, SMALL = 100, LARGE = 60000, PACKET = 1500 };

static struct overtaking overtaking;
static struct overtaken look;

static void begin(void) {
    overtaking = (struct overtaking){0};
    look = (struct overtaken){0};
}

static bool next(uint32_t flow, size_t length) {
    return overtaking_next(&overtaking, &look, flow, length, true);
}

static void a_small_frame_of_another_flow_overtakes(void) {
    begin();
    CHECK(!next(BULK, LARGE));
    CHECK(!next(BULK, LARGE));
    CHECK(next(PING, SMALL));
    CHECK(!next(BULK, LARGE));
    CHECK(next(PING, SMALL));
    CHECK(next(CALL, SMALL));
}

static void none_overtakes_its_own_flow(void) {
    begin();
    CHECK(!next(BULK, LARGE));
    CHECK(!next(BULK, SMALL));
    CHECK(!next(PING, OVERTAKES_MAX + 1));
    CHECK(!next(PING, SMALL));
    CHECK(next(CALL, SMALL));
}

static void none_overtakes_what_may_be_of_its_flow(void) {
    begin();
    CHECK(next(PING, SMALL));
    CHECK(!next(UNKNOWN, SMALL));
    CHECK(!next(PING, SMALL));
}

/* One look after the other at 16 packets of the one and 1 of the other that arrive while the stream
 * carries as many; returns how many of each overtook. */
static void compete(uint32_t first, unsigned n_first, uint32_t second, unsigned n_second,
                    unsigned n_of[4]) {
    for (unsigned i = 0; i < 4; i++)
        n_of[i] = 0;
    for (int round = 0; round < 1000; round++) {
        look = (struct overtaken){0};
        for (unsigned i = 0; i < n_first; i++)
            n_of[first] += next(first, PACKET);
        for (unsigned i = 0; i < n_second; i++)
            n_of[second] += next(second, PACKET);
        overtaking_wrote(&overtaking, (size_t)PACKET * (n_first + n_second));
    }
}

static void a_flow_of_small_packets_that_sends_all_it_can_is_overtaken_as_well(void) {
    unsigned n_of[4];
    begin();
    compete(BULK, 16, PING, 1, n_of);
    CHECK_EQUAL(n_of[PING], 1000);
    CHECK(n_of[BULK] < 20); /* the first ones, when nothing was known of it */
}

static void what_overtakes_is_half_of_all_at_most(void) {
    begin();
    unsigned n = 0, n_all = 0;
    for (int round = 0; round < 1000; round++) { /* each of 100 flows sends a hundredth */
        look = (struct overtaken){0};
        for (uint32_t flow = 1; flow <= 100; flow++, n_all++)
            n += next(flow, SMALL);
        overtaking_wrote(&overtaking, 100 * SMALL);
    }
    CHECK(n >= n_all * 45 / 100 && n <= n_all * 55 / 100);
}

static void a_flow_that_sends_less_overtakes_again_soon(void) {
    begin();
    unsigned n_of[4];
    compete(BULK, 16, PING, 1, n_of);
    look = (struct overtaken){0};
    CHECK(!next(BULK, SMALL));
    overtaking_wrote(&overtaking, OVERTAKES_REMEMBERED);
    look = (struct overtaken){0};
    CHECK(next(BULK, SMALL));
}

/* A frame that waits for many looks counts once. */
static void a_frame_that_is_looked_at_again_costs_nothing(void) {
    begin();
    CHECK(next(PING, PACKET));
    for (int i = 0; i < 100; i++) {
        overtaking_wrote(&overtaking, 2 * PACKET); /* for the share of all */
        CHECK(overtaking_next(&overtaking, &look, PING, PACKET, false));
    }
}

/* Byte counts are of 32 bits. */
static void it_goes_on_for_ever(void) {
    begin();
    unsigned n_of[4];
    for (int i = 0; i < 300; i++) {
        compete(BULK, 16, PING, 1, n_of);
        CHECK_EQUAL(n_of[PING], 1000);
        overtaking_wrote(&overtaking, 100 * 1000 * 1000);
    }
}

/* Whatever arrives: within a flow order stays. */
static void order_within_a_flow_stays(void) {
    struct random random = {7};
    begin();
    for (int round = 0; round < 20000; round++) {
        bool waits[5] = {false}, any_waits = false;
        look = (struct overtaken){0};
        for (size_t i = random_below(&random, 30); i > 0; i--) {
            uint32_t flow =
                random_below(&random, 40) == 0 ? UNKNOWN : 1 + (uint32_t)random_below(&random, 4);
            bool overtakes = next(flow, 1 + random_below(&random, 3000));
            CHECK(!overtakes || (!waits[flow] && !any_waits));
            waits[flow] |= !overtakes;
            any_waits |= flow == UNKNOWN;
        }
        overtaking_wrote(&overtaking, random_below(&random, 20000));
    }
}

int main(void) {
    RUN(a_small_frame_of_another_flow_overtakes);
    RUN(none_overtakes_its_own_flow);
    RUN(none_overtakes_what_may_be_of_its_flow);
    RUN(a_flow_of_small_packets_that_sends_all_it_can_is_overtaken_as_well);
    RUN(what_overtakes_is_half_of_all_at_most);
    RUN(a_flow_that_sends_less_overtakes_again_soon);
    RUN(a_frame_that_is_looked_at_again_costs_nothing);
    RUN(it_goes_on_for_ever);
    RUN(order_within_a_flow_stays);
    return EXIT_SUCCESS;
}
