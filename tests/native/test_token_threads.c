/* The token between a producer and a consumer that sleeps after every few records, while a gateway
 * rings the consumer's bell: every record is done once and in order, by one of the two at a time.
 *
 * What the holder alone may touch is a plain variable here, so that TSan sees whether the token
 * orders it. One mapping for both handles, as in test_ring_threads.c.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "loop/loop.h"
#include "random.h"
#include "shared/ring.h"
#include "sockets.h"

enum {
    SIZE = RING_SIZE_MIN,
    LENGTH = 100,
    SPACE_MAX = sizeof(struct ring_record) + LENGTH + RING_RECORD_ALIGN,
    BATCH_BYTES_MAX = 1024,
#ifdef __SANITIZE_THREAD__
    N_RECORDS = 100 * 1000,
#else
    N_RECORDS = 300 * 1000,
#endif
    BELL_EVERY_NS = 100 * 1000,
    PAUSE_NS = 50 * 1000,
};

static struct ring *producer, consumer, as_consumer;
static struct stats_block producer_stats, consumer_stats;
static int channel[2];
static _Atomic bool is_over;

/* The holder's: plain. */
static uint32_t n_done, n_in_place;

static bool do_record(struct ring *end, struct stats_block *stats) {
    uint64_t cursor = ring_first(end);
    bool corrupt = false;
    const struct ring_view *record = ring_peek(end, &cursor, &corrupt);
    CHECK(!corrupt);
    if (record == NULL)
        return false;
    CHECK_EQUAL(record->n_packets, n_done);
    n_done++;
    ring_release(end, cursor, stats);
    return true;
}

static void commit(uint32_t number) {
    struct ring_record *record;
    while ((record = ring_reserve(producer, SPACE_MAX)) == NULL)
        ring_wait_space(producer, SPACE_MAX, channel[1], &producer_stats);
    *record = (struct ring_record){.offset = sizeof *record, .length = LENGTH, .n_packets = number};
    ring_commit(producer, record);
}

static void publish(struct random *random) {
    if (!ring_publish_and_take(producer, BATCH_BYTES_MAX, &as_consumer, &producer_stats))
        return;
    size_t n_max = random_below(random, 8); /* the rest is the consumer's */
    for (size_t i = 0; i < n_max && do_record(&as_consumer, &producer_stats); i++)
        n_in_place++;
    ring_give_back(producer, &as_consumer, &producer_stats);
}

static void *produce(void *unused) {
    struct random random = {1};
    for (uint32_t number = 0; number < N_RECORDS;) {
        size_t n = 1 + random_below(&random, random_below(&random, 16) == 0 ? 64 : 4);
        for (; n > 0 && number < N_RECORDS; n--)
            commit(number++);
        publish(&random);
        /* Long enough for the consumer to fall asleep, which a busy one on a core of its own does not. */
        if (random_below(&random, 16) == 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        for (volatile size_t left = random_below(&random, 4000); left > 0; left--)
            ;
    }
    return unused;
}

static void *consume(void *unused) {
    struct ring *end = &consumer;
    struct random random = {2};
    end->is_offered = true;
    for (;;) {
        if (n_done == N_RECORDS)
            break;
        if (do_record(end, &consumer_stats))
            continue;
        end->is_offered = random_below(&random, 8) > 0;
        if (ring_wait_record(end, ring_first(end), channel[1], &consumer_stats) == WAIT_DOORBELL)
            CHECK(waiter_take_bell(&end->shared->consumer));
    }
    return unused;
}

static void *ring_doorbells(void *unused) {
    while (!atomic_load(&is_over)) {
        ring_doorbell_consumer(producer);
        nanosleep(&(struct timespec){.tv_nsec = BELL_EVERY_NS}, NULL);
    }
    return unused;
}

static void each_record_is_done_once_and_in_order_by_either(void) {
    pthread_t threads[3];
    int fd;
    producer = ring_create(SIZE, &fd);
    CHECK(producer != NULL);
    consumer = *producer;
    pair_open(channel, SOCK_SEQPACKET);
    pthread_create(&threads[0], NULL, produce, NULL);
    pthread_create(&threads[1], NULL, consume, NULL);
    pthread_create(&threads[2], NULL, ring_doorbells, NULL);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    atomic_store(&is_over, true);
    pthread_join(threads[2], NULL);
    printf("        %u of %u in place\n", n_in_place, n_done);
    CHECK_EQUAL(n_done, N_RECORDS);
    CHECK_EQUAL(ring_used_bytes(producer), 0);
    CHECK(n_in_place > N_RECORDS / 100);
    CHECK(n_in_place < N_RECORDS);
    ring_detach(producer);
    pair_close(channel);
    close(fd);
}

int main(void) {
    RUN(each_record_is_done_once_and_in_order_by_either);
    return EXIT_SUCCESS;
}
