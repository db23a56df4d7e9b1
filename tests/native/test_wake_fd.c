/* A link-writer that sleeps on descriptors, since a socket is full, hears its ring all the same:
 * no wake-up is lost in many rounds, at whatever moment the record comes. That sleep has no
 * heartbeat, so a lost wake-up is a peer that waits for ever. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "check.h"
#include "peer_links.h"
#include "random.h"

enum {
    SNDBUF_LEAST = 1,
    FROZEN = 0,
    PEER = 1,
    PACKET = 64,
    DAWDLE_MAX = 20000,
    PATIENCE_MS = 5000,
#ifdef __SANITIZE_THREAD__
    N_ROUNDS = 60000,
#else
    N_ROUNDS = 100000,
#endif
};

static struct peer_links links;

static void await_frame(uint32_t number) {
    struct pollfd stream = {.fd = links.peers[PEER].fd[1], .events = POLLIN};
    while (links.peers[PEER].next_frame <= number) {
        CHECK_EQUAL(poll(&stream, 1, PATIENCE_MS), 1);
        peer_read(&links, PEER, SIZE_MAX);
    }
}

static void dawdle(size_t n) {
    for (volatile size_t left = n; left > 0; left--)
        ;
}

static void open_with_a_full_socket(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, FROZEN, SNDBUF_LEAST);
    peer_attach(&links, PEER, 0);
    peer_links_run(&links);
    for (int i = 0; i < 4; i++)
        peer_send(&links, FROZEN, 20000);
    peer_links_await_empty_ring(&links);
}

static void a_record_wakes_the_link_writer_that_waits_for_a_full_socket(void) {
    struct random random = {17};
    open_with_a_full_socket();
    for (uint32_t round = 0; round < N_ROUNDS; round++) {
        /* around the moment at which the loop falls asleep, and well after it */
        dawdle(random_below(&random, round % 8 == 0 ? DAWDLE_MAX : DAWDLE_MAX / 20));
        peer_send(&links, PEER, PACKET);
        await_frame(round);
    }
    peer_links_stop(&links);
    uint64_t n_polls = stats_read_call(links.lane.stats, ROLE_link_writer, CALL_epoll_wait);
    printf(
        "        %llu sleeps on descriptors, %llu on the futex\n", (unsigned long long)n_polls,
        (unsigned long long)stats_read_call(links.lane.stats, ROLE_link_writer, CALL_futex_wait));
    CHECK(n_polls > N_ROUNDS / 100);
    CHECK(n_polls < 5 * N_ROUNDS); /* nor does it spin */
    peer_links_close(&links);
}

/* The other way round: the ring is silent, and only the socket has news. */
static void room_in_the_full_socket_wakes_the_link_writer_each_time(void) {
    open_with_a_full_socket();
    struct pollfd stream = {.fd = links.peers[FROZEN].fd[1], .events = POLLIN};
    for (int round = 0; round < 20000; round++) {
        if (links.n_published[FROZEN] - links.peers[FROZEN].next_frame < 3)
            peer_send(&links, FROZEN, 20000);
        CHECK_EQUAL(poll(&stream, 1, PATIENCE_MS), 1);
        peer_read(&links, FROZEN, 1500);
    }
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    peer_links_close(&links);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    RUN(a_record_wakes_the_link_writer_that_waits_for_a_full_socket);
    RUN(room_in_the_full_socket_wakes_the_link_writer_each_time);
    return EXIT_SUCCESS;
}
