/* The link-writer while peers take turns: everything arrives whole and in order, or is counted. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/socket.h>

#include "outbound/fair_writer.h"
#include "outbound/link_writer.h"
#include "check.h"
#include "datagram_peers.h"
#include "random.h"

enum { RATE = 100 * 1000 * 1000, MAX = 1400 };

static struct datagram_peers *const peers = &datagram_peers;
static struct random numbers = {0x66616972};

static struct fair *fair_of(void) {
    return &link_writer_of(peers->worker.loop)->fair;
}

/* As if the uplink had just been full. */
static void take_turns(void) {
    struct fair *fair = fair_of();
    fair->uplink = (struct uplink){.rate = RATE, .wait_ns = UPLINK_WAIT_FIRST_NS};
    fair->uplink.looked_ns = fair->uplink.moved_ns = fair->full_ns = clock_now_ns();
    fair->is_on = true;
}

static uint64_t n_accounted(void) {
    return stats_read_counter(peers->lane.stats, ROLE_link_writer, COUNTER_packets) +
           lane_dropped_in_all(&peers->lane);
}

static void receive_all(void) {
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        datagram_peer_receive_all(slot);
}

/* Publishes, and lets the loop run until so many packets in all have been sent or dropped. */
static void run_until_out(uint64_t n_packets) {
    lane_publish(&peers->lane);
    worker_start(&peers->worker);
    for (int i = 0; n_accounted() < n_packets; i++) {
        CHECK(i < 100000);
        receive_all();
        usleep(50);
    }
    CHECK_EQUAL(worker_stop(&peers->worker), LOOP_DOORBELL);
    receive_all();
    CHECK_EQUAL(n_accounted(), n_packets);
    CHECK_EQUAL(fair_of()->drr.n_ready, 0);
}

static uint64_t n_published(void) {
    uint64_t n = 0;
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        n += peers->peers[slot].n_published;
    return n;
}

static void end(void) {
    CHECK_EQUAL(lane_dropped_in_all(&peers->lane), 0);
    datagram_peers_check_balance();
    datagram_peers_close();
}

static void records_of_many_datagrams_leave_whole_and_in_order(void) {
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 4; i++) {
        datagram_peers_open(families[i / 2], i % 2 == 0);
        for (int round = 0; round < 50; round++) {
            take_turns();
            for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++) {
                size_t size = DATAGRAM_MIN + random_below(&numbers, MAX);
                unsigned n = 1 + (unsigned)random_below(&numbers, 20);
                datagrams_commit(slot, n, size,
                                 DATAGRAM_MIN + random_below(&numbers, size - DATAGRAM_MIN + 1));
            }
            run_until_out(n_published());
        }
        for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
            CHECK_EQUAL(peers->peers[slot].n_received, peers->peers[slot].n_published);
        end();
    }
}

/* Halves of one frame are one packet. */
static void a_packet_in_several_datagrams_is_counted_once(void) {
    datagram_peers_open(AF_INET, true);
    take_turns();
    for (int i = 0; i < 100; i++) {
        struct ring_record *record = datagrams_commit(0, 2, 700, 700);
        record->n_packets = 1;
        record->n_bytes = 1399;
        run_until_out(1 + (uint64_t)i);
    }
    CHECK_EQUAL(lane_peer_field(&peers->lane, 0, "transmit_packets"), 100);
    CHECK_EQUAL(lane_peer_field(&peers->lane, 0, "transmit_bytes"), 139900);
    CHECK_EQUAL(peers->peers[0].n_received, 200);
    CHECK_EQUAL(lane_dropped_in_all(&peers->lane), 0);
    datagram_peers_close();
}

static void what_waits_for_a_link_that_goes_is_counted(void) {
    enum { N = 40 };
    datagram_peers_open(AF_INET, true);
    take_turns();
    fair_of()->uplink.n_stuck = 0;
    fair_of()->uplink.rate = 1; /* three datagrams are all that the kernel may have */
    datagrams_commit(0, N, MAX, MAX);
    lane_publish(&peers->lane);
    worker_start(&peers->worker);
    while (ring_used_bytes(peers->lane.ring) > 0)
        usleep(50);
    worker_stop(&peers->worker);
    loop_detach_link(peers->worker.loop, 0);
    CHECK_EQUAL(fair_of()->drr.n_ready, 0);
    CHECK_EQUAL(lane_peer_field(&peers->lane, 0, "waiting_since_ns"), 0);
    CHECK_EQUAL(lane_peer_field(&peers->lane, 0, "transmit_packets") +
                    datagram_peers_dropped(DROP_link_writer_link_ended),
                N);
    datagrams_commit(1, 3, 100, 100);
    run_until_out(n_published());
    CHECK_EQUAL(peers->peers[1].n_received, 3);
    datagram_peers_close();
}

static void what_exceeds_a_queue_is_counted_and_the_rest_arrives_in_order(void) {
    datagram_peers_open(AF_INET, true);
    take_turns();
    for (int i = 0; i < 60; i++) {
        take_turns();
        fair_of()->uplink.rate = 1000;
        datagrams_commit(0, 40, MAX, MAX);
        datagrams_commit(1, 1, 100, 100);
        datagram_peers_run();
        receive_all();
    }
    run_until_out(n_published());
    CHECK_EQUAL(peers->peers[1].n_received, 60);
    CHECK_EQUAL(lane_peer_field(&peers->lane, 1, "dropped_packets"), 0);
    datagram_peers_check_balance();
    datagram_peers_close();
}

/* The kernel has as much as it may, and by the test's account keeps it. */
static void who_sends_little_does_not_wait_for_room(void) {
    datagram_peers_open(AF_INET, true);
    take_turns();
    struct fair *fair = fair_of();
    fair->uplink.rate = 1;
    fair->n_unsent = fair->uplink.n_unsent = uplink_limit(&fair->uplink);
    datagrams_commit(0, 20, MAX, MAX);
    datagrams_commit(1, 1, 100, 100);
    lane_publish(&peers->lane);
    CHECK_EQUAL(fair_step(link_writer_of(peers->worker.loop)), STEP_MORE);
    receive_all();
    CHECK_EQUAL(peers->peers[0].n_received, 2); /* the last may exceed what it has in its turn */
    CHECK_EQUAL(peers->peers[1].n_received, 1);
    CHECK_EQUAL(fair->drr.n_ready, 1);
    fair->n_unsent = 0;
    run_until_out(n_published());
    end();
}

static void after_a_second_without_a_full_uplink_all_goes_at_once_again(void) {
    datagram_peers_open(AF_INET, true);
    take_turns();
    datagrams_commit(0, 4, MAX, MAX);
    run_until_out(n_published());
    fair_of()->full_ns -= 2000000000ull;
    datagrams_commit(0, 4, MAX, MAX);
    run_until_out(n_published());
    datagrams_commit(0, 4, MAX, MAX);
    run_until_out(n_published());
    CHECK(!fair_of()->is_on);
    CHECK_EQUAL(peers->peers[0].n_received, 12);
    end();
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); /* as Python has it */
    RUN(records_of_many_datagrams_leave_whole_and_in_order);
    RUN(a_packet_in_several_datagrams_is_counted_once);
    RUN(what_waits_for_a_link_that_goes_is_counted);
    RUN(what_exceeds_a_queue_is_counted_and_the_rest_arrives_in_order);
    RUN(who_sends_little_does_not_wait_for_room);
    RUN(after_a_second_without_a_full_uplink_all_goes_at_once_again);
    return EXIT_SUCCESS;
}
