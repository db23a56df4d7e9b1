/* What is refused again and again is tried again more slowly; what is refused now and then is not. */
#define _GNU_SOURCE
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "shared/pace.h"
#include "shared/wait.h"

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Of 40 refusals the first PACE_FREE are free, and each of the others is followed by a rest. */
static void a_row_of_refusals_takes_time_and_no_processor(void) {
    double from = seconds(CLOCK_MONOTONIC), busy_from = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pace_accepted();
    for (int i = 0; i < 40; i++)
        pace_refused();
    double took = seconds(CLOCK_MONOTONIC) - from;
    CHECK(took >= (40 - PACE_FREE) * PACE_REST_MS / 1e3);
    CHECK(seconds(CLOCK_PROCESS_CPUTIME_ID) - busy_from < took / 4);
}

static void what_works_in_between_ends_the_row(void) {
    double from = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < 10000; i++) {
        pace_refused();
        pace_accepted();
    }
    CHECK(seconds(CLOCK_MONOTONIC) - from < 25); /* with a rest for each it is 50 */
}

/* Its eventfd cannot be written: it still sleeps, and the next record has to wake it. */
static void a_wake_up_that_is_refused_is_made_again(void) {
    struct waiter waiter = {.asleep = WAITER_ON_EVENTFD};
    struct stats_block stats = {0};
    int fd = eventfd(0, EFD_NONBLOCK);
    eventfd_t count;
    waiter_wake(&waiter, -1, &stats);
    CHECK_EQUAL(atomic_load(&waiter.asleep), WAITER_ON_EVENTFD);
    waiter_wake(&waiter, fd, &stats);
    CHECK_EQUAL(atomic_load(&waiter.asleep), WAITER_AWAKE);
    CHECK_EQUAL(eventfd_read(fd, &count), 0);
    close(fd);
}

int main(void) {
    RUN(a_row_of_refusals_takes_time_and_no_processor);
    RUN(what_works_in_between_ends_the_row);
    RUN(a_wake_up_that_is_refused_is_made_again);
    return EXIT_SUCCESS;
}
