/* The link-writer and a UDP socket that takes no more, because the network takes nothing. What is
 * sent to an address of the next network that does not answer waits there and fills the socket. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>

#include "check.h"
#include "datagram_peers.h"
#include "formats.h"
#include "sockets.h"

enum { UNREACHABLE = 1, ON_STREAM = 2, BLOCKED = 3, SIZE = 200, TRAIN = 64 };

static struct datagram_peers *const peers = &datagram_peers;

static int open_narrow_socket(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    set_send_buffer(fd, 1);
    CHECK_EQUAL(bind(fd, (const struct sockaddr *)&any, sizeof any), 0);
    CHECK_EQUAL(loop_add_socket(peers->worker.loop, 1, fd, true), 0);
    return fd;
}

static void commit_train_to_unreachable(void) {
    datagrams_commit(UNREACHABLE, TRAIN, SIZE, SIZE);
}

static void run_until_the_bell(void) {
    lane_publish(&peers->lane);
    worker_start(&peers->worker);
    usleep(20000);
    CHECK_EQUAL(worker_stop(&peers->worker), LOOP_DOORBELL);
}

static uint64_t n_sent_packets(void) {
    return stats_read_counter(peers->lane.stats, ROLE_link_writer, COUNTER_packets);
}

static void what_is_behind_a_datagram_that_waits_is_written_or_dropped_once(void) {
    struct link_format format = sealed_format(MODE_TUN, false);
    uint8_t bytes[2000];
    int stream[2];
    datagram_peers_open(AF_INET, true);
    int narrow = open_narrow_socket();
    struct udp_address unreachable = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .socket_index = 1, .address = {10, 9, 0, 9}};
    peer_write_endpoint(&peers->lane.peers->by_link_reader[UNREACHABLE], &unreachable);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    CHECK_EQUAL(loop_attach_link(peers->worker.loop, ON_STREAM, ON_STREAM, stream[0], &format), 0);

    loop_block_link(peers->worker.loop, BLOCKED, true);
    commit_train_to_unreachable();
    datagrams_commit(ON_STREAM, 1, SIZE, SIZE);
    commit_train_to_unreachable(); /* for which the socket has no room */
    datagrams_commit(ON_STREAM, 1, SIZE, SIZE);
    datagrams_commit(BLOCKED, 1, SIZE, SIZE);
    for (int i = 0; i < 2; i++) {
        run_until_the_bell();
        CHECK_EQUAL(n_sent_packets(), TRAIN + 2);
        CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_inside_tunnel), 1);
        CHECK(ring_used_bytes(peers->lane.ring) > 0);
    }
    CHECK_EQUAL(read(stream[1], bytes, sizeof bytes), 2 * SIZE);

    loop_detach_link(peers->worker.loop, UNREACHABLE);
    run_until_the_bell();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_no_link), TRAIN);
    CHECK_EQUAL(n_sent_packets(), TRAIN + 2);
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_inside_tunnel), 1);
    CHECK(read(stream[1], bytes, sizeof bytes) < 0);
    CHECK_EQUAL(ring_used_bytes(peers->lane.ring), 0);

    loop_detach_link(peers->worker.loop, ON_STREAM);
    datagram_peers_close();
    close(narrow);
    pair_close(stream);
}

int main(void) {
    if (unshare(CLONE_NEWNET) < 0) {
        printf("  skip  needs a network namespace of its own (root)\n");
        return EXIT_SKIP;
    }
    CHECK_EQUAL(system("ip link set lo up && ip link add here type veth peer name there && "
                       "ip address add 10.9.0.1/24 dev here && ip link set here up && "
                       "ip link set there up"),
                0);
    RUN(what_is_behind_a_datagram_that_waits_is_written_or_dropped_once);
    return EXIT_SUCCESS;
}
