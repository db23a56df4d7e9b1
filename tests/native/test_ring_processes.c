/* A ring between two processes, each killed with SIGKILL and replaced again and again.
 *
 * A record's length and bytes follow from its place in the stream (the free-running index) and from
 * the producer that wrote it, so any successor can go on where the indices stand, and a consumer
 * can tell a record that a dead producer never published from the one that took its place.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"
#include "loop/loop.h"
#include "random.h"
#include "shared/ring.h"

enum {
    SIZE = RING_SIZE_MIN,
    LENGTH_MAX = 40000,
    SPACE_MAX = sizeof(struct ring_record) + LENGTH_MAX,
    N_KILLS = 500,
    LIFE_US_MAX = 15000, /* long enough to attach, sleep and be woken, short for many kills */
};

/* What the processes tell the test, in memory that outlives them. */
struct journal {
    uint64_t published_until[N_KILLS + 2]; /* by producer: head when it was dead */
    _Atomic uint64_t verified;             /* the furthest index whose record was read and right */
    _Atomic uint64_t n_records, n_seen_again;
    _Atomic uint64_t n_sleeps[2];
    _Atomic bool finish; /* the producer stops at the next record, the consumer at an empty ring */
};

static struct journal *journal;
static int ring_fd, channel[2];

static struct ring *attach(void) {
    struct ring *ring = ring_attach(ring_fd, SIZE);
    CHECK(ring != NULL);
    return ring;
}

static uint32_t length_at(uint64_t index) {
    struct random random = {index * 0x9e3779b97f4a7c15ull + 1};
    random_next(&random);
    return 1 +
           (uint32_t)random_below(&random, random_below(&random, 16) == 0 ? LENGTH_MAX - 1 : 600);
}

static uint8_t byte_at(uint64_t index, unsigned producer) {
    return (uint8_t)(index / RING_RECORD_ALIGN * 31 + producer * 7);
}

/* -- the two processes ------------------------------------------------------------------------- */

static void note_sleeps(int side, const struct stats_block *stats) {
    atomic_store(&journal->n_sleeps[side],
                 atomic_load(&journal->n_sleeps[side]) + stats->calls[CALL_futex_wait]);
}

static void produce(unsigned producer) {
    struct ring *ring = attach();
    struct random random = {producer + 1};
    while (!atomic_load(&journal->finish)) {
        struct stats_block stats = {0};
        for (size_t batch = 1 + random_below(&random, 8); batch > 0; batch--) {
            struct ring_record *record = ring_reserve(ring, SPACE_MAX);
            if (record == NULL)
                break;
            uint32_t length = length_at(ring->head);
            *record = (struct ring_record){
                .offset = sizeof *record, .length = length, .n_packets = producer};
            memset(ring_payload(record), byte_at(ring->head, producer), length);
            ring_commit(ring, record);
        }
        if (ring_has_unpublished(ring))
            ring_publish(ring, &stats);
        else
            ring_wait_space(ring, SPACE_MAX, channel[1], &stats);
        note_sleeps(0, &stats);
    }
    ring_publish(ring, &(struct stats_block){0});
}

/* A producer's records end where it was found dead, and its successor's begin there. */
static void check_producer(uint64_t index, unsigned producer) {
    uint64_t until = __atomic_load_n(&journal->published_until[producer], __ATOMIC_ACQUIRE);
    CHECK(index < until); /* UINT64_MAX while it lives */
    if (producer > 0)
        CHECK(index >= __atomic_load_n(&journal->published_until[producer - 1], __ATOMIC_ACQUIRE));
}

static void check_record(uint64_t index, const struct ring_view *record) {
    CHECK_EQUAL(record->length, length_at(index));
    CHECK(record->n_packets <= N_KILLS);
    check_producer(index, record->n_packets);
    const uint8_t *payload = record->payload;
    uint8_t expected = byte_at(index, record->n_packets);
    for (uint32_t i = 0; i < record->length; i++)
        if (payload[i] != expected)
            CHECK_EQUAL(payload[i], expected);
}

static void count_record(uint64_t end) {
    if (end <= atomic_load(&journal->verified)) {
        atomic_fetch_add(&journal->n_seen_again, 1);
        return;
    }
    atomic_store(&journal->verified, end);
    atomic_fetch_add(&journal->n_records, 1);
}

static void consume(unsigned consumer) {
    struct ring *ring = attach();
    struct random random = {consumer + 1};
    uint64_t cursor = ring_first(ring), index = cursor;
    /* Nothing was skipped: all before the tail has been read by some consumer. */
    CHECK(cursor <= atomic_load(&journal->verified));
    for (;;) {
        struct stats_block stats = {0};
        bool corrupt = false, last = atomic_load(&journal->finish);
        const struct ring_view *record = ring_peek(ring, &cursor, &corrupt);
        CHECK(!corrupt);
        if (record == NULL && last)
            break;
        if (record == NULL) {
            ring_wait_record(ring, cursor, channel[1], &stats);
            note_sleeps(1, &stats);
            continue;
        }
        check_record(index, record);
        count_record(cursor);
        index = cursor;
        if (random_below(&random, 4) == 0)
            ring_release(ring, cursor, &stats);
    }
    ring_release(ring, cursor, &(struct stats_block){0});
}

/* -- the supervisor ---------------------------------------------------------------------------- */

static pid_t spawn(void (*role)(unsigned), unsigned number) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        role(number);
        _exit(EXIT_SUCCESS);
    }
    return pid;
}

/* A process that ended by itself has failed a CHECK, or has finished when asked to. */
static void reap(pid_t pid, int expected_signal) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        CHECK_EQUAL(WEXITSTATUS(status), EXIT_SUCCESS);
    CHECK_EQUAL(WIFSIGNALED(status) ? WTERMSIG(status) : 0, expected_signal);
}

static void note_end(struct ring *ring, unsigned producer) {
    uint64_t head = atomic_load(&ring->shared->head);
    __atomic_store_n(&journal->published_until[producer], head, __ATOMIC_RELEASE);
}

static void kill_and_replace(struct ring *ring) {
    struct random random = {42};
    unsigned n_producers = 1, n_consumers = 1;
    pid_t producer = spawn(produce, 0), consumer = spawn(consume, 0);
    for (int i = 0; i < N_KILLS; i++) {
        usleep((useconds_t)random_below(&random, LIFE_US_MAX));
        if (random_below(&random, 2) == 0) {
            kill(producer, SIGKILL);
            reap(producer, SIGKILL);
            note_end(ring, n_producers - 1);
            producer = spawn(produce, n_producers++);
        } else {
            kill(consumer, SIGKILL);
            reap(consumer, SIGKILL);
            consumer = spawn(consume, n_consumers++);
        }
    }
    atomic_store(&journal->finish, true);
    reap(producer, 0);
    reap(consumer, 0);
}

static void drain(struct ring *ring) {
    pid_t consumer = spawn(consume, N_KILLS + 1); /* the last one may have been ahead of the end */
    reap(consumer, 0);
    CHECK_EQUAL(ring_used_bytes(ring), 0);
    CHECK_EQUAL(atomic_load(&journal->verified), atomic_load(&ring->shared->head));
}

static void whoever_is_killed_nothing_is_lost_invented_or_reordered(void) {
    journal =
        mmap(NULL, sizeof *journal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(journal != MAP_FAILED);
    memset(journal->published_until, 0xff, sizeof journal->published_until);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel), 0);
    struct ring *ring = ring_create(SIZE, &ring_fd);
    CHECK(ring != NULL);
    kill_and_replace(ring);
    drain(ring);
    printf("        %d kills, %llu records, %llu seen again, %llu and %llu sleeps\n", N_KILLS,
           (unsigned long long)journal->n_records, (unsigned long long)journal->n_seen_again,
           (unsigned long long)journal->n_sleeps[0], (unsigned long long)journal->n_sleeps[1]);
    CHECK(journal->n_records > 10 * N_KILLS);
    CHECK(journal->n_seen_again > 0); /* kills did hit between peek and release */
    CHECK(journal->n_sleeps[0] > 0 && journal->n_sleeps[1] > 0);
    ring_detach(ring);
}

int main(void) {
    RUN(whoever_is_killed_nothing_is_lost_invented_or_reordered);
    return EXIT_SUCCESS;
}
