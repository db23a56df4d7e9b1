/* The link-reader and the tun-writer are processes, and either is killed at random moments, most of them
 * in the middle of a step that is done in place: whatever the moment, all that was taken in is delivered
 * or counted as dropped, and the one that lives goes on. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "check.h"
#include "formats.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "random.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    RING_BYTES = RING_SIZE_MIN,
    N_KILLS = 300,
    LIFE_US_MAX = 3000,
    PACKET = 100,
    BATCH = 12, /* is still done in place, and takes a while */
    PATIENCE_MS = 5000,
    ROUND_PACKETS = 20,
    DAWDLE_MAX = 60000,
};

static struct lane_memory lane;
static int device[2], stream[2]; /* [0]: the workers' */

static uint64_t counted(enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(lane.stats, role, counter);
}

/* Runs as the worker's process until it is killed. */
static pid_t start(enum stats_role role) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    struct worker_thread worker;
    struct link_format format = plain_format(MODE_TUN, false);
    worker_open(&worker, role, WIRE_PLAIN, MODE_TUN, &lane, device[0]);
    if (role == ROLE_link_reader)
        CHECK_EQUAL(loop_attach_link(worker.loop, 0, 1, stream[0], &format), 0);
    for (;;) {
        loop_run(worker.loop);
        loop_take_bell(worker.loop);
    }
}

static void end(pid_t pid) {
    CHECK_EQUAL(kill(pid, SIGKILL), 0);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
}

static bool send_messages(int n) {
    uint8_t messages[BATCH][STREAM_LENGTH_PREFIX + PACKET] = {0};
    for (int i = 0; i < n; i++) {
        be16_write(messages[i], PACKET);
        messages[i][STREAM_LENGTH_PREFIX] = 0x45;
        be16_write(messages[i] + STREAM_LENGTH_PREFIX + 2, PACKET);
    }
    return write(stream[1], messages, (size_t)n * sizeof messages[0]) > 0;
}

/* About as long as it takes until they are in the device. */
static void dawdle(size_t n) {
    for (volatile size_t left = n; left > 0; left--)
        ;
}

/* As many as there is room for, and what came out of the device is taken. */
static void send_some(struct random *random) {
    uint8_t frame[VNET_LENGTH + PACKET];
    for (size_t i = 1 + random_below(random, ROUND_PACKETS); i > 0; i--) {
        if (!send_messages(1))
            break;
        if (random_below(random, 3) == 0)
            usleep((useconds_t)random_below(random, 60));
        while (read(device[1], frame, sizeof frame) > 0)
            ;
    }
}

static void await_all_counted(void) {
    uint8_t frame[VNET_LENGTH + PACKET];
    for (int ms = 0; counted(ROLE_link_reader, COUNTER_packets) !=
                     counted(ROLE_tun_writer, COUNTER_packets) + lane_dropped_in_all(&lane);
         ms++) {
        CHECK(ms < PATIENCE_MS);
        while (read(device[1], frame, sizeof frame) > 0)
            ;
        usleep(1000);
    }
}

static void whichever_is_killed_all_is_counted_once(void) {
    struct random random = {23};
    lane_memory_open(&lane, RING_BYTES);
    lane_memory_add_wake_fd(&lane);
    lane.hands_over = true;
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    set_send_buffer(device[0], 1 << 20);
    pid_t writer = start(ROLE_tun_writer);
    unsigned n_held = 0;
    for (int n = 0; n < N_KILLS; n++) {
        pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
        pid_t reader = start(ROLE_link_reader);
        usleep((useconds_t)random_below(&random, LIFE_US_MAX));
        send_some(&random);
        if (random_below(&random, 4) == 0) {
            end(writer);
            writer = start(ROLE_tun_writer);
            send_some(&random);
        }
        send_messages(BATCH);
        dawdle(random_below(&random, DAWDLE_MAX));
        end(reader);
        n_held += (unsigned)ring_producer_is_dead(lane.ring);
        CHECK_EQUAL(write(lane.wake_fd, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
        pair_close(stream);
    }
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    pid_t reader = start(ROLE_link_reader); /* counts what the last one lost */
    await_all_counted();
    printf("        %llu packets, %llu of them in place, %u killed with the token, %llu dropped\n",
           (unsigned long long)counted(ROLE_link_reader, COUNTER_packets),
           (unsigned long long)counted(ROLE_link_reader, COUNTER_in_place), n_held,
           (unsigned long long)lane_dropped_in_all(&lane));
    CHECK(counted(ROLE_link_reader, COUNTER_in_place) > 100);
    end(reader);
    end(writer);
    lane_memory_close(&lane);
    pair_close(device);
    pair_close(stream);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    RUN(whichever_is_killed_all_is_counted_once);
    return EXIT_SUCCESS;
}
