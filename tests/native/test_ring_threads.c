/* A producer and a consumer in two threads, a gateway that rings their doorbells in a third.
 *
 * Run twice over. With two mappings of one memfd, as two processes have them. And with one mapping
 * for both handles: a race detector knows memory by its address, so only then does TSan see that
 * both sides touch the same bytes and whether head and tail order them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "check.h"
#include "loop/loop.h"
#include "random.h"
#include "shared/ring.h"

enum {
    SIZE = RING_SIZE_MIN,
    LENGTH_MAX = 65536,
    SPACE_MAX = sizeof(struct ring_record) + LENGTH_MAX,
#ifdef __SANITIZE_THREAD__
    N_RECORDS = 1000 * 1000,
#else
    N_RECORDS = 2000 * 1000,
#endif
    /* Every so many records the pace changes, so that either side waits for the other in turn. */
    PHASE_RECORDS = 8192,
    /* Waits that ran into the heartbeat although the neighbour works. A lost wake-up costs one;
     * a machine that stops for half a second may as well. */
    STALLS_MAX = 3,
};

struct side {
    struct ring *ring;
    struct stats_block stats;
    int channel_fd;
    unsigned n_bells, n_stalls;
};

struct lane {
    struct side producer, consumer;
    _Atomic bool over;
};

/* -- the records: length and bytes follow from the number -------------------------------------- */

static size_t length_of(struct random *random) {
    size_t kind = random_below(random, 256);
    if (kind == 0)
        return 1 + random_below(random, LENGTH_MAX);
    return 1 + random_below(random, kind < 64 ? 1500 : 128);
}

static uint64_t content_word(uint32_t number, size_t i) {
    return number * 0x9e3779b97f4a7c15ull + i;
}

/* Words, not bytes, and the odd bytes at the end are left alone: checking is most of the run. */
static void write_content(uint8_t *payload, size_t length, uint32_t number) {
    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint64_t word = content_word(number, i);
        memcpy(payload + i, &word, sizeof word);
    }
}

static void check_content(const uint8_t *payload, size_t length, uint32_t number) {
    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, sizeof word);
        if (word != content_word(number, i))
            CHECK_EQUAL(word, content_word(number, i));
    }
}

/* -- the two sides ----------------------------------------------------------------------------- */

static void count_wait(struct side *side, struct waiter *self, enum wait_end end,
                       uint64_t start_ns) {
    if (end == WAIT_DOORBELL) {
        CHECK(waiter_take_bell(self));
        side->n_bells++;
    } else if (clock_now_ns() - start_ns >= WAIT_HEARTBEAT_NS) {
        side->n_stalls++;
    }
}

static void wait_space(struct side *side) {
    uint64_t start_ns = clock_now_ns();
    enum wait_end end = ring_wait_space(side->ring, SPACE_MAX, side->channel_fd, &side->stats);
    count_wait(side, &side->ring->shared->producer, end, start_ns);
}

static void wait_record(struct side *side, uint64_t cursor) {
    uint64_t start_ns = clock_now_ns();
    enum wait_end end = ring_wait_record(side->ring, cursor, side->channel_fd, &side->stats);
    count_wait(side, &side->ring->shared->consumer, end, start_ns);
}

static void pause_ns(long ns) {
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* Which side is the slow one while this record passes: 0 none, 1 the producer, 2 the consumer. */
static unsigned phase_of(uint32_t number) {
    return number / PHASE_RECORDS % 8 == 1 ? 1 : number / PHASE_RECORDS % 8 == 5 ? 2 : 0;
}

static void *produce(void *argument) {
    struct side *side = &((struct lane *)argument)->producer;
    struct random lengths = {1}, batches = {2};
    for (uint32_t number = 0; number < N_RECORDS;) {
        size_t batch = phase_of(number) == 1 ? 1 : 1 + random_below(&batches, 64);
        for (; batch > 0 && number < N_RECORDS; batch--, number++) {
            struct ring_record *record;
            while ((record = ring_reserve(side->ring, SPACE_MAX)) == NULL) {
                if (ring_has_unpublished(side->ring))
                    ring_publish(side->ring, &side->stats);
                wait_space(side);
            }
            uint32_t length = (uint32_t)length_of(&lengths);
            *record = (struct ring_record){
                .offset = sizeof *record, .length = length, .n_packets = number};
            write_content(ring_payload(record), length, number);
            ring_commit(side->ring, record);
        }
        ring_publish(side->ring, &side->stats);
        if (phase_of(number) == 1 && number % 16 == 0)
            pause_ns(1000);
    }
    return NULL;
}

static void *consume(void *argument) {
    struct side *side = &((struct lane *)argument)->consumer;
    struct random lengths = {1}, batches = {3};
    uint64_t cursor = ring_first(side->ring);
    size_t until_release = 1;
    for (uint32_t number = 0; number < N_RECORDS;) {
        bool corrupt = false;
        const struct ring_view *record = ring_peek(side->ring, &cursor, &corrupt);
        CHECK(!corrupt);
        if (record == NULL) {
            ring_release(side->ring, cursor, &side->stats);
            wait_record(side, cursor);
            continue;
        }
        CHECK_EQUAL(record->n_packets, number);
        CHECK_EQUAL(record->length, length_of(&lengths));
        check_content(record->payload, record->length, number);
        number++;
        if (--until_release == 0) {
            ring_release(side->ring, cursor, &side->stats);
            until_release = 1 + random_below(&batches, 64);
        }
        if (phase_of(number) == 2 && number % 16 == 0)
            pause_ns(1000);
    }
    ring_release(side->ring, cursor, &side->stats);
    return NULL;
}

static void *ring_doorbells(void *argument) {
    struct lane *lane = argument;
    while (!atomic_load(&lane->over)) {
        ring_doorbell_producer(lane->producer.ring);
        ring_doorbell_consumer(lane->producer.ring);
        pause_ns(200 * 1000);
    }
    return NULL;
}

/* -- the claims -------------------------------------------------------------------------------- */

static void run_lane(struct lane *lane) {
    pthread_t producer, consumer, gateway;
    int channel[2];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    lane->producer.channel_fd = lane->consumer.channel_fd = channel[0];
    pthread_create(&producer, NULL, produce, lane);
    pthread_create(&consumer, NULL, consume, lane);
    pthread_create(&gateway, NULL, ring_doorbells, lane);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    atomic_store(&lane->over, true);
    pthread_join(gateway, NULL);
    close(channel[0]);
    close(channel[1]);
}

static void check_lane(struct lane *lane) {
    const struct side *sides[] = {&lane->producer, &lane->consumer};
    CHECK_EQUAL(ring_used_bytes(lane->producer.ring), 0);
    for (int i = 0; i < 2; i++) {
        const struct side *side = sides[i];
        printf("        %-8s %llu sleeps, %llu wakes of the other, %u bells, %u stalls\n",
               i == 0 ? "producer" : "consumer",
               (unsigned long long)side->stats.calls[CALL_futex_wait],
               (unsigned long long)side->stats.calls[CALL_futex_wake], side->n_bells,
               side->n_stalls);
        CHECK(side->stats.calls[CALL_futex_wait] >= 100);
        CHECK(side->stats.calls[CALL_futex_wake] >= 100);
        CHECK(side->n_bells >= 10);
        CHECK(side->n_stalls <= STALLS_MAX);
    }
}

static void records_pass_whole_and_in_order_between_two_mappings(void) {
    struct lane lane = {0};
    int fd;
    lane.producer.ring = ring_create(SIZE, &fd);
    CHECK(lane.producer.ring != NULL);
    lane.consumer.ring = ring_attach(fd, SIZE);
    CHECK(lane.consumer.ring != NULL);
    run_lane(&lane);
    check_lane(&lane);
    ring_detach(lane.producer.ring);
    ring_detach(lane.consumer.ring);
    close(fd);
}

static void records_pass_whole_and_in_order_without_a_race(void) {
    struct lane lane = {0};
    int fd;
    lane.producer.ring = ring_create(SIZE, &fd);
    CHECK(lane.producer.ring != NULL);
    struct ring consumer = *lane.producer.ring;
    lane.consumer.ring = &consumer;
    run_lane(&lane);
    check_lane(&lane);
    ring_detach(lane.producer.ring);
    close(fd);
}

int main(void) {
    RUN(records_pass_whole_and_in_order_between_two_mappings);
    RUN(records_pass_whole_and_in_order_without_a_race);
    return EXIT_SUCCESS;
}
