/* Tun-writers, and link-readers that write in the place of sleeping ones, in processes of their own,
 * killed at any moment and replaced. Whatever comes of it: the device gets no packet twice, and each
 * is counted once. The test is the gateway, the peer and the device. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "confine.h"
#include "formats.h"
#include "killed.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "random.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    RING_BYTES = 1 << 20,
    PACKET = 64,
    N_KILLS = 60,
    N_KILLS_SOAK = 3000, /* with FASTUN_SOAK */
    LIFE_STEPS_MAX = 60,
    PATIENCE_MS = 5000,
    NUMBERS_MAX = 1 << 24,
};

static struct lane_memory lane;
static int stream[2], device[2]; /* [0]: the workers' */
static uint32_t n_sent;
static uint64_t n_got;
static uint8_t n_seen[NUMBERS_MAX]; /* by number */

static void be_worker(int role) {
    static struct worker_thread worker;
    const struct link_format format = plain_format(MODE_TUN, false);
    worker_open(&worker, (enum stats_role)role, WIRE_PLAIN, MODE_TUN, &lane, device[0]);
    if (role == ROLE_link_reader)
        CHECK_EQUAL(loop_attach_link(worker.loop, 0, 1, stream[0], &format), 0);
    for (;;)
        if (loop_run(worker.loop) == LOOP_DOORBELL) /* a holder was killed */
            loop_take_bell(worker.loop);
}

/* One message of the peer; a link-reader that is killed takes whole ones along. */
static void send_packet(void) {
    uint8_t message[STREAM_LENGTH_PREFIX + PACKET] = {0};
    uint8_t *packet = message + STREAM_LENGTH_PREFIX;
    be16_write(message, PACKET);
    packet[0] = 0x45;
    be16_write(packet + 2, PACKET);
    be32_write(packet + IPV4_HEADER_SIZE, n_sent);
    CHECK(n_sent < NUMBERS_MAX);
    if (send(stream[1], message, sizeof message, MSG_DONTWAIT) == (ssize_t)sizeof message)
        n_sent++;
}

static void take_frames(void) {
    uint8_t frame[VNET_LENGTH + PACKET];
    while (recv(device[1], frame, sizeof frame, MSG_DONTWAIT) == (ssize_t)sizeof frame) {
        uint32_t number = be32_read(frame + VNET_LENGTH + IPV4_HEADER_SIZE);
        CHECK(number < n_sent);
        CHECK_EQUAL(n_seen[number], 0);
        n_seen[number] = 1;
        n_got++;
    }
}

static uint64_t counted(enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(lane.stats, role, counter);
}

static bool adds_up(void) {
    return counted(ROLE_tun_writer, COUNTER_packets) + lane_dropped_in_all(&lane) ==
           counted(ROLE_link_reader, COUNTER_packets);
}

static void live(struct random *random) {
    size_t life = 1 + random_below(random, LIFE_STEPS_MAX);
    uint64_t before = n_got;
    for (size_t t = 0; t < life || n_got == before; t++) {
        CHECK(t < (size_t)PATIENCE_MS * 20);
        for (size_t n = random_below(random, 4) == 0 ? random_below(random, 60) : 1; n > 0; n--)
            send_packet();
        usleep(random_below(random, 8) == 0 ? 600 : 50); /* the writer sleeps, or it does not */
        take_frames();
    }
}

static void kill_often(enum stats_role killed, bool hands_over) {
    struct random random = {11};
    int n_kills = getenv("FASTUN_SOAK") != NULL ? N_KILLS_SOAK : N_KILLS;
    const enum stats_role roles[] = {ROLE_link_reader, ROLE_tun_writer};
    pid_t pids[2];
    n_sent = 0, n_got = 0;
    memset(n_seen, 0, sizeof n_seen);
    lane_memory_open(&lane, RING_BYTES);
    lane.hands_over = hands_over;
    pair_open(stream, SOCK_SEQPACKET);
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    set_send_buffer(device[0], 1 << 22);
    for (int i = 0; i < 2; i++)
        pids[i] = killed_spawn(be_worker, (int)roles[i]);
    for (int kill = 0; kill < n_kills; kill++) {
        int i = killed == ROLE_tun_writer;
        live(&random);
        killed_reap(pids[i]);
        ring_producer_is_dead(lane.ring); /* harmless where the consumer was killed */
        pids[i] = killed_spawn(be_worker, (int)roles[i]);
    }
    live(&random);
    for (int ms = 0; !adds_up(); ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
        take_frames();
    }
    take_frames();
    printf("        %d kills of a %s: %llu of %u packets, %llu died, %llu in place\n", n_kills,
           killed == ROLE_tun_writer ? "tun-writer" : "link-reader", (unsigned long long)n_got,
           n_sent, (unsigned long long)stats_read_drop(lane.stats, DROP_tun_writer_worker_died),
           (unsigned long long)counted(ROLE_link_reader, COUNTER_in_place));
    CHECK(stats_read_drop(lane.stats, DROP_tun_writer_worker_died) <= (uint64_t)n_kills);
    CHECK((counted(ROLE_link_reader, COUNTER_in_place) > 0) == hands_over);
    for (int i = 0; i < 2; i++)
        killed_reap(pids[i]);
    lane_memory_close(&lane);
    pair_close(stream);
    pair_close(device);
}

static void nothing_is_written_twice_whenever_the_tun_writer_is_killed(void) {
    kill_often(ROLE_tun_writer, false);
    kill_often(ROLE_tun_writer, true);
}

static void nothing_is_written_twice_whenever_a_link_reader_that_writes_for_it_is_killed(void) {
    kill_often(ROLE_link_reader, true);
}

int main(void) {
    RUN(nothing_is_written_twice_whenever_the_tun_writer_is_killed);
    RUN(nothing_is_written_twice_whenever_a_link_reader_that_writes_for_it_is_killed);
    return EXIT_SUCCESS;
}
