/* What is refused again and again is tried again more slowly; what is refused now and then is not. */
#define _GNU_SOURCE
#include <time.h>

#include "check.h"
#include "shared/pace.h"

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Of 40 refusals the first PACE_FREE are free, and each of the others is followed by a rest. */
static void test_a_row_of_refusals_takes_time_and_no_processor(void) {
    double from = seconds(CLOCK_MONOTONIC), busy_from = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pace_accepted();
    for (int i = 0; i < 40; i++)
        pace_refused();
    double took = seconds(CLOCK_MONOTONIC) - from;
    CHECK(took >= (40 - PACE_FREE) * PACE_REST_MS / 1e3);
    CHECK(seconds(CLOCK_PROCESS_CPUTIME_ID) - busy_from < took / 4);
}

static void test_what_works_in_between_ends_the_row(void) {
    double from = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < 10000; i++) {
        pace_refused();
        pace_accepted();
    }
    CHECK(seconds(CLOCK_MONOTONIC) - from < 25); /* with a rest for each it is 50 */
}

int main(void) {
    test_a_row_of_refusals_takes_time_and_no_processor();
    test_what_works_in_between_ends_the_row();
    return 0;
}
