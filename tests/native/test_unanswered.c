/* Flows that cross for so long that they get no answers, by a clock of the test's. */
#define _GNU_SOURCE
#include "check.h"
#include "outbound/unanswered.h"
#include "shared/clock.h"

enum { A = 77, B = A + UNANSWERED_PLACES, MS = NS_PER_MS };

static struct unanswered flows;
static uint64_t now_ns = 5 * (uint64_t)NS_PER_S;

static bool stays_after(uint64_t flow, uint64_t passed_ms, bool is_through) {
    now_ns += passed_ms * MS;
    return unanswered_stays(&flows, flow, is_through, now_ns);
}

static void a_flow_crosses_for_as_long_as_an_answer_may_take_and_then_stays(void) {
    for (int i = 0; i <= 100; i++)
        CHECK(!stays_after(A, 10, true));
    CHECK(stays_after(A, 10, true));
    CHECK(stays_after(A, 900, true));
}

static void it_waits_until_what_has_crossed_is_through(void) {
    CHECK(!stays_after(A, 5000, true));
    for (int i = 0; i < 300; i++)
        CHECK(!stays_after(A, 10, false));
    CHECK(stays_after(A, 10, true));
    CHECK(stays_after(A, 10, false));
}

static void one_that_pauses_is_like_a_new_one(void) {
    CHECK(stays_after(A, 10, true));
    CHECK(!stays_after(A, 1001, true));
    CHECK(!stays_after(A, 1001, true));
}

static void another_one_in_its_place_begins_anew_and_so_does_it_after_that(void) {
    for (int i = 0; i <= 101; i++)
        stays_after(A, 10, true);
    CHECK(stays_after(A, 10, true));
    CHECK(!stays_after(B, 10, true));
    CHECK(!stays_after(A, 10, true));
}

int main(void) {
    RUN(a_flow_crosses_for_as_long_as_an_answer_may_take_and_then_stays);
    RUN(it_waits_until_what_has_crossed_is_through);
    RUN(one_that_pauses_is_like_a_new_one);
    RUN(another_one_in_its_place_begins_anew_and_so_does_it_after_that);
    return EXIT_SUCCESS;
}
