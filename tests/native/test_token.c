/* The consumer's token: which hands it is in, and what a killed holder leaves behind. */
#define _GNU_SOURCE
#include "shared/token.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"
#include "fastun.h"
#include "shared/ring.h"
#include "sockets.h"

enum { SIZE = RING_SIZE_MIN, SMALL = 4096, PAYLOAD = 100, PATIENCE_MS = 5000 };

static struct stats_block stats;
static struct ring *producer, *consumer, as_consumer;
static int fd, channel[2];

static void open_ends(void) {
    producer = ring_create(SIZE, &fd);
    consumer = ring_attach(fd, SIZE);
    CHECK(producer != NULL && consumer != NULL);
    consumer->is_offered = true;
    pair_open(channel, SOCK_SEQPACKET);
}

static void close_ends(void) {
    ring_detach(producer);
    ring_detach(consumer);
    pair_close(channel);
    close(fd);
}

static void commit(uint32_t number) {
    struct ring_record *record = ring_reserve(producer, sizeof *record + PAYLOAD);
    CHECK(record != NULL);
    *record =
        (struct ring_record){.offset = sizeof *record, .length = PAYLOAD, .n_packets = number};
    ring_commit(producer, record);
}

static bool publish(uint32_t number, size_t n_bytes_max) {
    commit(number);
    return ring_publish_and_take(producer, n_bytes_max, &as_consumer, &stats);
}

/* The number of the first record, which is released; 0: there is none. */
static uint32_t take_record(struct ring *end) {
    uint64_t cursor = ring_first(end);
    bool corrupt = false;
    const struct ring_view *record = ring_peek(end, &cursor, &corrupt);
    CHECK(!corrupt);
    if (record == NULL)
        return 0;
    uint32_t number = record->n_packets;
    ring_release(end, cursor, &stats);
    return number;
}

static uint32_t asleep(void) {
    return atomic_load(&producer->shared->consumer.asleep);
}

/* -- a consumer that sleeps, in a thread ------------------------------------------------------- */

static pthread_t sleeper;
static enum wait_end sleep_end;

static void *sleep_until_woken(void *unused) {
    sleep_end = ring_wait_record(consumer, ring_first(consumer), channel[1], &stats);
    return unused;
}

static void begin_sleep(void) {
    uint64_t n_before = atomic_load(&stats.calls[CALL_futex_wait]);
    CHECK_EQUAL(pthread_create(&sleeper, NULL, sleep_until_woken, NULL), 0);
    while (atomic_load(&stats.calls[CALL_futex_wait]) == n_before)
        usleep(100);
    usleep(2000);
}

static enum wait_end end_of_sleep(void) {
    CHECK_EQUAL(pthread_join(sleeper, NULL), 0);
    return sleep_end;
}

static void await_word(uint32_t flag) {
    for (int ms = 0; (asleep() & flag) == 0; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
}

/* -- the claims -------------------------------------------------------------------------------- */

static void an_awake_consumer_keeps_the_token(void) {
    open_ends();
    CHECK(!publish(1, SMALL));
    CHECK_EQUAL(asleep(), WAITER_AWAKE);
    CHECK_EQUAL(take_record(consumer), 1);
    close_ends();
}

static void a_sleeper_that_offers_nothing_is_woken(void) {
    open_ends();
    consumer->is_offered = false;
    begin_sleep();
    CHECK(!publish(1, SMALL));
    CHECK_EQUAL(end_of_sleep(), WAIT_READY);
    CHECK_EQUAL(take_record(consumer), 1);
    close_ends();
}

static void a_small_batch_is_the_producers_and_the_sleeper_sleeps_on(void) {
    open_ends();
    begin_sleep();
    for (uint32_t number = 1; number <= 3; number++) {
        CHECK(publish(number, SMALL));
        CHECK_EQUAL(take_record(&as_consumer), number);
        CHECK_EQUAL(take_record(&as_consumer), 0);
        ring_give_back(producer, &as_consumer, &stats);
    }
    CHECK_EQUAL(asleep(), WAITER_ON_FUTEX | TOKEN_OFFERED);
    CHECK_EQUAL(ring_released_packets(&as_consumer), 1 + 2 + 3);
    CHECK(!publish(4, PAYLOAD)); /* too much at once */
    CHECK_EQUAL(end_of_sleep(), WAIT_READY);
    CHECK_EQUAL(take_record(consumer), 4); /* and not what was done for it */
    CHECK_EQUAL(asleep(), WAITER_AWAKE);
    close_ends();
}

static void what_the_holder_leaves_the_consumer_is_woken_for(void) {
    open_ends();
    begin_sleep();
    commit(1);
    CHECK(publish(2, SMALL));
    CHECK_EQUAL(take_record(&as_consumer), 1);
    ring_give_back(producer, &as_consumer, &stats);
    CHECK_EQUAL(end_of_sleep(), WAIT_READY);
    CHECK_EQUAL(take_record(consumer), 2);
    CHECK(!consumer->is_orphaned);
    close_ends();
}

static void the_gateways_bell_waits_for_the_holder(void) {
    open_ends();
    begin_sleep();
    CHECK(publish(1, SMALL));
    ring_doorbell_consumer(producer);
    await_word(TOKEN_WANTED);
    CHECK_EQUAL(take_record(&as_consumer), 1);
    ring_give_back(producer, &as_consumer, &stats);
    CHECK_EQUAL(end_of_sleep(), WAIT_DOORBELL);
    CHECK_EQUAL(asleep(), WAITER_AWAKE);
    CHECK_EQUAL(take_record(consumer), 0);
    CHECK(!consumer->is_orphaned);
    close_ends();
}

/* At whatever moment: it sleeps on, or has been woken and waits. */
static void what_a_killed_holder_had_is_the_consumers_again(void) {
    for (int is_awake = 0; is_awake < 2; is_awake++) {
        open_ends();
        begin_sleep();
        CHECK_EQUAL(ring_producer_is_dead(producer), 0); /* it held nothing */
        commit(1);
        CHECK(publish(2, SMALL));
        CHECK_EQUAL(take_record(&as_consumer), 1);
        if (is_awake) {
            ring_doorbell_consumer(producer);
            await_word(TOKEN_WANTED);
        }
        CHECK_EQUAL(ring_producer_is_dead(producer), 1);
        CHECK_EQUAL(end_of_sleep(), WAIT_DOORBELL);
        CHECK(consumer->is_orphaned);
        CHECK_EQUAL(take_record(consumer), 2);
        close_ends();
    }
}

/* The next producer must not take for a sleeper's word what is the gateway's. */
static void a_successor_takes_nothing_from_a_consumer_that_is_still_to_take_over(void) {
    open_ends();
    waiter_prepare(&consumer->shared->consumer, WAITER_ON_FUTEX | TOKEN_OFFERED);
    CHECK(publish(1, SMALL));
    CHECK_EQUAL(ring_producer_is_dead(producer), 1);
    CHECK(!publish(2, SMALL));
    CHECK(asleep() & TOKEN_ORPHANED);
    ring_regain(consumer, channel[1]);
    CHECK(consumer->is_orphaned);
    CHECK_EQUAL(take_record(consumer), 1);
    CHECK_EQUAL(take_record(consumer), 2);
    close_ends();
}

static void a_killed_consumers_offer_is_good_until_its_successor_comes(void) {
    open_ends();
    pid_t child = fork();
    if (child == 0) {
        ring_wait_record(consumer, ring_first(consumer), channel[1], &stats);
        _exit(0);
    }
    await_word(TOKEN_OFFERED);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK(publish(1, SMALL));
    CHECK_EQUAL(take_record(&as_consumer), 1);
    ring_give_back(producer, &as_consumer, &stats);
    ring_regain(consumer, channel[1]);
    CHECK(!consumer->is_orphaned);
    CHECK_EQUAL(asleep(), WAITER_AWAKE);
    CHECK_EQUAL(take_record(consumer), 0);
    close_ends();
}

static void a_holder_whose_gateway_died_is_not_waited_for(void) {
    open_ends();
    waiter_prepare(&consumer->shared->consumer, WAITER_ON_FUTEX | TOKEN_OFFERED);
    CHECK(publish(1, SMALL));
    close(channel[0]);
    channel[0] = -1;
    ring_regain(consumer, channel[1]);
    CHECK(consumer->is_orphaned);
    close_ends();
}

static void *publish_soon(void *unused) {
    usleep(2000);
    commit(1);
    ring_publish(producer, &stats);
    return unused;
}

/* With a core to spare. Nothing is offered meanwhile: it is awake. */
static void a_consumer_that_spins_sees_record_and_bell_without_a_wake_up(void) {
    pthread_t thread;
    open_ends();
    consumer->spin_ns = 1000u * 1000 * 1000;
    uint64_t n_sleeps = atomic_load(&stats.calls[CALL_futex_wait]);
    uint64_t n_wakes = atomic_load(&stats.calls[CALL_futex_wake]);
    CHECK_EQUAL(pthread_create(&thread, NULL, publish_soon, NULL), 0);
    CHECK_EQUAL(ring_wait_record(consumer, ring_first(consumer), channel[1], &stats), WAIT_READY);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(take_record(consumer), 1);
    ring_doorbell_consumer(producer);
    CHECK_EQUAL(ring_wait_record(consumer, ring_first(consumer), channel[1], &stats),
                WAIT_DOORBELL);
    CHECK_EQUAL(atomic_load(&stats.calls[CALL_futex_wait]), n_sleeps);
    CHECK_EQUAL(atomic_load(&stats.calls[CALL_futex_wake]), n_wakes);
    close_ends();
}

int main(void) {
    RUN(a_consumer_that_spins_sees_record_and_bell_without_a_wake_up);
    RUN(an_awake_consumer_keeps_the_token);
    RUN(a_sleeper_that_offers_nothing_is_woken);
    RUN(a_small_batch_is_the_producers_and_the_sleeper_sleeps_on);
    RUN(what_the_holder_leaves_the_consumer_is_woken_for);
    RUN(the_gateways_bell_waits_for_the_holder);
    RUN(what_a_killed_holder_had_is_the_consumers_again);
    RUN(a_successor_takes_nothing_from_a_consumer_that_is_still_to_take_over);
    RUN(a_killed_consumers_offer_is_good_until_its_successor_comes);
    RUN(a_holder_whose_gateway_died_is_not_waited_for);
    return EXIT_SUCCESS;
}
