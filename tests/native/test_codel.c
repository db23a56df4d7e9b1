/* codel: when frames are dropped, by a clock of its own. */
#include "outbound/codel.h"

#include <stdlib.h>

#include "check.h"

static const uint64_t ms = 1000000, start = 1000000000;

/* Frames arrive each ms for `n_ms`, each seeing `delay_ns`. Returns how many were dropped. */
static unsigned offer(struct codel *codel, uint64_t from_ns, unsigned n_ms, uint64_t delay_ns) {
    unsigned n_dropped = 0;
    for (unsigned i = 0; i < n_ms; i++)
        n_dropped += codel_should_drop(codel, delay_ns, from_ns + i * ms);
    return n_dropped;
}

static void a_queue_that_is_long_for_a_moment_loses_nothing(void) {
    struct codel codel = {0};
    for (unsigned round = 0; round < 50; round++) {
        uint64_t from_ns = start + round * 200 * ms;
        CHECK_EQUAL(offer(&codel, from_ns, 99, CODEL_TARGET_NS * 10ull), 0);
        CHECK_EQUAL(offer(&codel, from_ns + 99 * ms, 1, CODEL_TARGET_NS - 1), 0);
    }
}

static void a_queue_that_stays_long_loses_more_and_more_often(void) {
    struct codel codel = {0};
    CHECK_EQUAL(offer(&codel, start, 100, CODEL_TARGET_NS), 0);
    unsigned before = 0;
    for (unsigned second = 0; second < 5; second++) {
        unsigned now = offer(&codel, start + (100 + second * 1000) * ms, 1000, CODEL_TARGET_NS);
        CHECK(now > before);
        before = now;
    }
    CHECK(before < 500); /* and never all */
}

/* RFC 8289 5.4: after the n-th drop the next is 100 ms / sqrt(n) later. */
static void the_gaps_follow_the_inverse_square_root(void) {
    const unsigned gaps_ms[] = {100, 70, 57, 50, 44, 40};
    struct codel codel = {0};
    uint64_t now_ns = start, last_ns = 0;
    unsigned n = 0;
    for (; n < 7; now_ns += ms) {
        if (!codel_should_drop(&codel, CODEL_TARGET_NS, now_ns))
            continue;
        if (n > 0) {
            uint64_t gap_ms = (now_ns - last_ns) / ms;
            CHECK(gap_ms + 2 >= gaps_ms[n - 1] && gap_ms <= gaps_ms[n - 1] + 2);
        }
        last_ns = now_ns;
        n++;
    }
}

/* What comes seldom does not make the next drop later. */
static void a_drop_that_comes_late_does_not_put_off_the_next(void) {
    const struct {
        unsigned at_ms;
        bool is_dropped;
    } frames[] = {{0, false}, {140, true}, {200, false}, {280, true}, {300, false}, {330, true}};
    struct codel codel = {0};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
        CHECK_EQUAL(codel_should_drop(&codel, CODEL_TARGET_NS, start + frames[i].at_ms * ms),
                    frames[i].is_dropped);
}

static void a_short_delay_ends_the_dropping_at_once(void) {
    struct codel codel = {0};
    CHECK(offer(&codel, start, 500, CODEL_TARGET_NS) > 0);
    CHECK_EQUAL(offer(&codel, start + 500 * ms, 1, 0), 0);
    CHECK_EQUAL(offer(&codel, start + 501 * ms, 99, CODEL_TARGET_NS), 0);
}

static void dropping_that_begins_again_soon_goes_on_where_it_was(void) {
    struct codel soon = {0}, late = {0};
    offer(&soon, start, 3000, CODEL_TARGET_NS);
    late = soon;
    offer(&soon, start + 3000 * ms, 1, 0);
    offer(&late, start + 3000 * ms, 1, 0);
    unsigned n_soon = offer(&soon, start + 3001 * ms, 400, CODEL_TARGET_NS);
    unsigned n_late = offer(&late, start + 30000 * ms, 400, CODEL_TARGET_NS);
    CHECK(n_soon > n_late);
}

/* What is believed to wait may have gone long ago; one that sends a packet a second shall not find
 * out by losing all of them. */
static void never_two_frames_in_a_row_are_dropped(void) {
    struct codel codel = {0};
    bool has_dropped = false;
    for (unsigned second = 0; second < 100; second++) {
        bool drops = codel_should_drop(&codel, 1000 * start, start + second * 1000 * ms);
        CHECK(!(drops && has_dropped));
        has_dropped = drops;
    }
}

int main(void) {
    RUN(a_queue_that_is_long_for_a_moment_loses_nothing);
    RUN(a_queue_that_stays_long_loses_more_and_more_often);
    RUN(the_gaps_follow_the_inverse_square_root);
    RUN(a_drop_that_comes_late_does_not_put_off_the_next);
    RUN(a_short_delay_ends_the_dropping_at_once);
    RUN(dropping_that_begins_again_soon_goes_on_where_it_was);
    RUN(never_two_frames_in_a_row_are_dropped);
    return EXIT_SUCCESS;
}
