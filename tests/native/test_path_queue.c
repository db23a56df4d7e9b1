/* path_queue: how much a stream may have on its way, by a clock and a path of the test's own. */
#include "outbound/path_queue.h"

#include "check.h"

#define MS    1000000ull
#define START 1000000000ull

/* A bottleneck that carries `rate` behind a queue, at the end of a way of `least_ns`. */
struct path {
    uint64_t rate, least_ns, now_ns;
    uint64_t n_queued; /* ours, in the bottleneck's queue */
    uint64_t n_others; /* bytes that others keep there, whatever we do */
    uint64_t n_sent, n_carried;
    uint64_t n_most, idle_ns;
};

static void carry(struct path *path, uint64_t ns) {
    uint64_t n_all = path->n_queued + path->n_others;
    uint64_t n = path->rate * (ns / 1000) / 1000000;
    if (n_all > 0) /* what is carried is of ours as of the others' by how much there is of each */
        n = path->n_others > 0 ? n * path->n_queued / n_all : n;
    path->idle_ns += n > path->n_queued ? ns - path->n_queued * 1000 * MS / path->rate : 0;
    n = n > path->n_queued ? path->n_queued : n;
    path->n_queued -= n;
    path->n_carried += n;
    path->now_ns += ns;
}

/* What is on the way there and back, and is not in the queue, is as much as is carried meanwhile. */
static struct path_figures figures_of(const struct path *path) {
    uint64_t n_on_the_way =
        path->n_carried > 0 ? path->rate / 1000 * (path->least_ns / 1000) / 1000 : 0;
    uint64_t waits_ns = (path->n_queued + path->n_others) * 1000000 / (path->rate / 1000);
    if (path->n_others > 0)
        n_on_the_way = n_on_the_way * path->n_queued / (path->n_queued + path->n_others + 1);
    return (struct path_figures){path->least_ns + waits_ns, path->least_ns,
                                 (uint32_t)path->n_carried, 1, path->n_queued + n_on_the_way};
}

/* For `n_ms`, one look each `ms_a_look`; without a limit there are `n_window` bytes under way, as TCP
 * would have. */
static void run_for(struct path_queue *queue, struct path *path, unsigned n_ms, uint64_t ms_a_look,
                    uint64_t n_window) {
    path->n_most = path->idle_ns = 0;
    for (unsigned i = 0; i < n_ms / ms_a_look; i++) {
        struct path_figures figures = figures_of(path);
        path_queue_look(queue, &figures, path->now_ns);
        uint64_t room = path_queue_room(queue, &figures);
        uint64_t window = n_window > figures.n_under_way ? n_window - figures.n_under_way : 0;
        path->n_queued += room < window ? room : window;
        path->n_most = path->n_queued > path->n_most ? path->n_queued : path->n_most;
        carry(path, ms_a_look * MS);
    }
}

/* As TCP has it: the way and 50 ms of queue. */
static uint64_t full_window(const struct path *path) {
    return path->rate / 1000 * (path->least_ns / 1000 + 50000) / 1000;
}

static void the_queue_is_short_and_never_empty_whatever_rate_and_way(void) {
    const uint64_t ways_ns[] = {10000, 5 * MS, 50 * MS, 200 * MS};
    for (uint64_t rate = 625000; rate <= 125000000; rate *= 10)
        for (int i = 0; i < 4; i++) {
            struct path_queue queue = {0};
            struct path path = {.rate = rate, .least_ns = ways_ns[i], .now_ns = START};
            run_for(&queue, &path, 1000, 1, full_window(&path));
            CHECK(queue.is_limited);
            run_for(&queue, &path, 2000, 1, full_window(&path));
            CHECK(queue.is_limited);
            CHECK_EQUAL(path.idle_ns, 0);
            CHECK(path.n_most <= rate / 1000 * (PATH_QUEUE_MS + 5) ||
                  path.n_most <= PATH_LIMIT_MIN);
        }
}

static void a_worker_that_is_late_empties_it_not(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START};
    run_for(&queue, &path, 1000, 1, full_window(&path));
    run_for(&queue, &path, 2000, 10, full_window(&path));
    CHECK(queue.is_limited);
    CHECK(path.idle_ns < 20 * MS);
}

static void a_short_queue_is_left_alone(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START};
    uint64_t window = path.rate / 1000 * (5 + PATH_QUEUED_MS - 2);
    run_for(&queue, &path, 2000, 1, window);
    CHECK(!queue.is_limited);
}

static void a_queue_for_a_moment_is_left_alone(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START};
    uint64_t window = path.rate / 1000 * (5 + PATH_QUEUED_MS + 10);
    for (int i = 0; i < 20; i++) {
        run_for(&queue, &path, PATH_QUEUED_FOR_MS / 2, 1, window);
        run_for(&queue, &path, 60, 1, 1000);
        CHECK(!queue.is_limited);
    }
}

/* A flow that gives way to those that do not gets nothing. */
static void beside_others_who_keep_the_queue_long_it_is_given_up(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START, .n_others = 312500};
    unsigned n_limited_ms = 0;
    for (int ms = 0; ms < 60 * 1000; ms++) {
        run_for(&queue, &path, 1, 1, 312500);
        n_limited_ms += queue.is_limited;
    }
    CHECK(n_limited_ms > 0);
    CHECK(n_limited_ms < 60 * 1000 / 20);
    CHECK(queue.pause_ns > PATH_PAUSE_MS * MS); /* longer each time */
}

static void when_the_others_are_gone_it_is_tried_again(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START, .n_others = 312500};
    run_for(&queue, &path, 5000, 1, 312500);
    CHECK(!queue.is_limited);
    path.n_others = 0;
    run_for(&queue, &path, PATH_PAUSE_MS + 1000, 1, full_window(&path));
    CHECK(queue.is_limited);
}

static void a_path_that_becomes_faster_is_used_at_once(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 1 * MS, .now_ns = START};
    run_for(&queue, &path, 1000, 1, full_window(&path));
    CHECK(queue.is_limited);
    path.rate = 1250000000;
    path.least_ns = MS / 20;
    run_for(&queue, &path, 300, 1, 1000000);
    CHECK(!queue.is_limited);
}

static void a_path_that_becomes_slower_keeps_its_short_queue(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 12500000, .least_ns = 5 * MS, .now_ns = START};
    run_for(&queue, &path, 1000, 1, full_window(&path));
    path.rate = 2500000;
    run_for(&queue, &path, 1000, 1, full_window(&path));
    run_for(&queue, &path, 1000, 1, full_window(&path));
    CHECK(queue.is_limited);
    CHECK_EQUAL(path.idle_ns, 0);
    CHECK(path.n_most <= path.rate / 1000 * (PATH_QUEUE_MS + 10));
}

/* A transfer begins with what the last one has found. */
static void a_pause_changes_nothing(void) {
    struct path_queue queue = {0};
    struct path path = {.rate = 6250000, .least_ns = 5 * MS, .now_ns = START};
    run_for(&queue, &path, 1000, 1, full_window(&path));
    path.n_queued = 0;
    path.now_ns += 60 * 1000 * MS;
    run_for(&queue, &path, 1000, 1, full_window(&path));
    CHECK(queue.is_limited);
    CHECK(path.n_most <= path.rate / 1000 * (5 + PATH_QUEUE_MS + 5));
}

/* 100 MB/s, in packets of `packet` bytes; `n_ms` looks. Returns the highest rate that was measured. */
static uint64_t deliver(struct path_queue *queue, struct path_figures *figures, uint32_t packet,
                        unsigned n_ms, uint64_t *now_ns) {
    uint64_t highest = 0;
    figures->packet = packet;
    for (unsigned i = 0; i < n_ms; i++) {
        figures->n_delivered += 100000 / packet;
        *now_ns += MS;
        path_queue_look(queue, figures, *now_ns);
        highest = queue->rates[0] > highest ? queue->rates[0] : highest;
    }
    return highest;
}

/* The kernel counts packets, in 32 bits. */
static void the_rate_leaps_neither_with_the_packets_length_nor_where_their_count_begins_anew(void) {
    const uint64_t most = 101000000;
    struct path_queue queue = {0};
    struct path_figures figures = {5 * MS, 5 * MS, UINT32_MAX - 50 * 100, 1000, 0};
    uint64_t now_ns = START;
    uint64_t rate = deliver(&queue, &figures, 1000, 35, &now_ns);
    CHECK(rate > most - 2000000 && rate <= most);
    CHECK(deliver(&queue, &figures, 10000, 10, &now_ns) <= most);
    CHECK(deliver(&queue, &figures, 1000, 300, &now_ns) <= most);
    CHECK(figures.n_delivered < 50 * 1000 && queue.rates[0] > most - 2000000);
}

/* What a kernel may say that knows less, or at the wrong moment. */
static void impossible_figures_limit_nothing(void) {
    const struct path_figures figures[] = {{0},
                                           {1, 1000 * MS, 0, 0, 0},
                                           {UINT64_MAX, 0, UINT32_MAX, UINT32_MAX, UINT64_MAX},
                                           {0, 0, 5, 1, 0}};
    struct path_queue queue = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        path_queue_look(&queue, &figures[i % 4], START + i * MS);
        CHECK(path_queue_room(&queue, &figures[i % 4]) > 0 || queue.is_limited);
    }
    CHECK(!queue.is_limited || queue.limit >= PATH_LIMIT_MIN);
}

int main(void) {
    RUN(the_queue_is_short_and_never_empty_whatever_rate_and_way);
    RUN(a_worker_that_is_late_empties_it_not);
    RUN(a_short_queue_is_left_alone);
    RUN(a_queue_for_a_moment_is_left_alone);
    RUN(beside_others_who_keep_the_queue_long_it_is_given_up);
    RUN(when_the_others_are_gone_it_is_tried_again);
    RUN(a_path_that_becomes_faster_is_used_at_once);
    RUN(a_path_that_becomes_slower_keeps_its_short_queue);
    RUN(a_pause_changes_nothing);
    RUN(the_rate_leaps_neither_with_the_packets_length_nor_where_their_count_begins_anew);
    RUN(impossible_figures_limit_nothing);
    return EXIT_SUCCESS;
}
