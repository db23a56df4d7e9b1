/* Sleeping and waking: no wake-up and no bell is lost, in any interleaving that two processors
 * produce. The races are run in lockstep, so that a missing fence shows within seconds. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "check.h"
#include "loop/loop.h"
#include "random.h"
#include "shared/ring.h"
#include "shared/wait.h"

enum {
    SIZE = RING_SIZE_MIN,
    N_ROUNDS = 200000, /* without one of the fences it fails every time, also on a busy machine */
    DAWDLE_MAX = 6000,
    NEIGHBOUR_DAWDLE = 100,
    DAWDLE_STEP = 4,
    DAWDLE_JITTER = 16,
    HEARTBEAT_MS = WAIT_HEARTBEAT_NS / 1000000
};

static struct stats_block stats;

static uint64_t now_ms(void) {
    return clock_now_ns() / 1000000;
}

/* -- in lockstep ------------------------------------------------------------------------------- */

/* Two threads do one step each at the same moment; the main thread judges between the rounds. */
struct race {
    struct ring *ring; /* one mapping: the threads never touch the same field of the handle */
    void (*neighbour)(struct race *race);
    _Atomic unsigned round, done;
    uint64_t cursor;
};

static void meet(_Atomic unsigned *counter, unsigned value) {
    for (unsigned n = 0; atomic_load(counter) != value; n++)
        if (n > 10000) /* more threads than free processors */
            sched_yield();
}

static void dawdle(size_t n) {
    for (volatile size_t left = n; left > 0; left--)
        ;
}

static void *run_neighbour(void *argument) {
    struct race *race = argument;
    for (unsigned round = 1; round <= N_ROUNDS; round++) {
        meet(&race->round, round);
        dawdle(NEIGHBOUR_DAWDLE);
        race->neighbour(race);
        atomic_store(&race->done, round);
    }
    return NULL;
}

/* Runs one `index` moved by the neighbour against its owner going to sleep on `waiter`. */
static void race_run(struct race *race, struct waiter *waiter, _Atomic uint64_t *index,
                     void (*between)(struct race *race)) {
    struct random random = {11};
    pthread_t thread;
    int n_seen = 0, n_woken = 0;
    size_t delay = NEIGHBOUR_DAWDLE;
    CHECK_EQUAL(pthread_create(&thread, NULL, run_neighbour, race), 0);
    for (unsigned round = 1; round <= N_ROUNDS; round++) {
        between(race);
        uint64_t before = atomic_load(index);
        atomic_store(&race->round, round);
        dawdle(delay + random_below(&random, DAWDLE_JITTER));
        uint32_t event = waiter_prepare(waiter, WAITER_ON_FUTEX);
        bool seen = atomic_load_explicit(index, memory_order_acquire) != before;
        meet(&race->done, round);
        bool woken = atomic_load(&waiter->event) != event;
        CHECK(seen || woken); /* else it would sleep on, with work before it */
        waiter_cancel(waiter);
        /* The one that came first starts later next time, so the two keep meeting on the same
         * instant: a missing fence lets them pass each other only within some ten nanoseconds. */
        if (seen && delay >= DAWDLE_STEP)
            delay -= DAWDLE_STEP;
        else if (!seen && delay < DAWDLE_MAX)
            delay += DAWDLE_STEP;
        n_seen += seen;
        n_woken += woken;
    }
    pthread_join(thread, NULL);
    printf("        seen %d, woken %d of %d\n", n_seen, n_woken, N_ROUNDS);
    CHECK(n_seen > 0 && n_seen < N_ROUNDS); /* the two did meet */
    CHECK(n_woken > 0);
}

static void publish_one(struct race *race) {
    struct ring_record *record = ring_reserve(race->ring, RING_RECORD_ALIGN);
    CHECK(record != NULL);
    *record = (struct ring_record){.offset = sizeof *record, .length = 1};
    ring_commit(race->ring, record);
    ring_publish(race->ring, &stats);
}

static void take_one(struct race *race) {
    bool corrupt = false;
    if (ring_peek(race->ring, &race->cursor, &corrupt) != NULL)
        ring_release(race->ring, race->cursor, &stats);
    race->ring->peer = ring_first(race->ring); /* as the producer of the same handle sees it */
}

static void a_record_published_while_the_consumer_falls_asleep_wakes_it(void) {
    int fd;
    struct race race = {.ring = ring_create(SIZE, &fd), .neighbour = publish_one};
    race_run(&race, &race.ring->shared->consumer, &race.ring->shared->head, take_one);
    ring_detach(race.ring);
    close(fd);
}

static void release_one(struct race *race) {
    ring_release(race->ring, race->cursor, &stats);
}

static void fill_one(struct race *race) {
    bool corrupt = false;
    publish_one(race);
    race->ring->peer = race->cursor; /* as the consumer of the same handle sees it */
    CHECK(ring_peek(race->ring, &race->cursor, &corrupt) != NULL);
    race->ring->peer = ring_first(race->ring);
}

static void space_released_while_the_producer_falls_asleep_wakes_it(void) {
    int fd;
    struct race race = {.ring = ring_create(SIZE, &fd), .neighbour = release_one};
    atomic_store(&race.ring->shared->producer.wanted, SIZE);
    race_run(&race, &race.ring->shared->producer, &race.ring->shared->tail, fill_one);
    ring_detach(race.ring);
    close(fd);
}

/* -- bells ------------------------------------------------------------------------------------- */

static void a_bell_rung_before_the_sleep_prevents_it(void) {
    struct waiter waiter = {0};
    uint64_t start = now_ms();
    waiter_ring(&waiter);
    uint32_t event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    CHECK_EQUAL(waiter_sleep(&waiter, event, -1, &stats), WAIT_DOORBELL);
    event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    CHECK_EQUAL(waiter_sleep(&waiter, event, -1, &stats), WAIT_DOORBELL); /* until it is taken */
    CHECK(waiter_take_bell(&waiter));
    CHECK(!waiter_take_bell(&waiter));
    CHECK(now_ms() - start < HEARTBEAT_MS / 2);
}

static void a_bell_between_the_announcement_and_the_sleep_is_not_lost(void) {
    struct waiter waiter = {0};
    uint64_t start = now_ms();
    uint32_t event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    waiter_ring(&waiter);
    CHECK(atomic_load(&waiter.event) != event); /* it may have looked for the bell already */
    CHECK_EQUAL(waiter_sleep(&waiter, event, -1, &stats), WAIT_DOORBELL);
    CHECK(now_ms() - start < HEARTBEAT_MS / 2);
}

static void a_wake_between_the_announcement_and_the_sleep_is_not_lost(void) {
    struct waiter waiter = {0};
    uint64_t start = now_ms();
    uint32_t event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    waiter_wake(&waiter, -1, &stats);
    CHECK_EQUAL(waiter_sleep(&waiter, event, -1, &stats), WAIT_READY);
    CHECK(now_ms() - start < HEARTBEAT_MS / 2);
}

static void *ring_later(void *argument) {
    usleep(50 * 1000);
    waiter_ring(argument);
    return NULL;
}

static void a_bell_ends_a_sleep_at_once(void) {
    struct waiter waiter = {0};
    pthread_t thread;
    uint64_t start = now_ms();
    pthread_create(&thread, NULL, ring_later, &waiter);
    uint32_t event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    CHECK_EQUAL(waiter_sleep(&waiter, event, -1, &stats), WAIT_DOORBELL);
    CHECK(now_ms() - start < HEARTBEAT_MS * 9 / 10);
    pthread_join(thread, NULL);
}

/* -- the channel ------------------------------------------------------------------------------- */

static void a_gateway_that_died_ends_a_sleep_within_a_heartbeat(void) {
    struct waiter waiter = {0};
    int channel[2];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    uint64_t start = now_ms();
    uint32_t event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    CHECK_EQUAL(waiter_sleep(&waiter, event, channel[1], &stats), WAIT_READY); /* it lives */
    CHECK(now_ms() - start >= HEARTBEAT_MS - 10);
    close(channel[0]);
    event = waiter_prepare(&waiter, WAITER_ON_FUTEX);
    CHECK_EQUAL(waiter_sleep(&waiter, event, channel[1], &stats), WAIT_DOORBELL);
    CHECK(now_ms() - start < 4 * HEARTBEAT_MS);
    close(channel[1]);
}

static void the_channel_ends_a_wait_for_a_descriptor_and_comes_first(void) {
    int channel[2], other[2];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
    CHECK_EQUAL(wait_fd(other[0], POLLIN, 20, channel[1], &stats), WAIT_READY);
    CHECK_EQUAL(wait_fd(other[0], POLLOUT, -1, channel[1], &stats), WAIT_READY);
    CHECK_EQUAL(write(channel[0], "!", 1), 1);
    CHECK_EQUAL(wait_fd(other[0], POLLIN, -1, channel[1], &stats), WAIT_DOORBELL);
    CHECK_EQUAL(wait_fd(other[0], POLLOUT, -1, channel[1], &stats), WAIT_DOORBELL);
    CHECK_EQUAL(wait_fd(-1, 0, -1, channel[1], &stats), WAIT_DOORBELL);
    close(channel[0]);
    close(channel[1]);
    close(other[0]);
    close(other[1]);
}

int main(void) {
    RUN(a_record_published_while_the_consumer_falls_asleep_wakes_it);
    RUN(space_released_while_the_producer_falls_asleep_wakes_it);
    RUN(a_bell_rung_before_the_sleep_prevents_it);
    RUN(a_bell_between_the_announcement_and_the_sleep_is_not_lost);
    RUN(a_wake_between_the_announcement_and_the_sleep_is_not_lost);
    RUN(a_bell_ends_a_sleep_at_once);
    RUN(a_gateway_that_died_ends_a_sleep_within_a_heartbeat);
    RUN(the_channel_ends_a_wait_for_a_descriptor_and_comes_first);
    return EXIT_SUCCESS;
}
