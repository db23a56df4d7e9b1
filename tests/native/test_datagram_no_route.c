/* The link-writer, and peers that this host has no route to: counted apart from what it refuses to
 * send for another reason. The routes are those of this process's own network namespace. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "datagram_peers.h"

enum { N_PACKETS = 7, SIZE = 200 };

static struct datagram_peers *const peers = &datagram_peers;

/* A peer beside the one without a route gets its datagrams. */
static void datagrams_without_a_route_are_counted_apart(void) {
    const struct {
        uint8_t address[4];
        uint64_t n_no_route, n_not_sent;
    } cases[] = {
        {{192, 0, 2, 1}, N_PACKETS, 0},    /* no route: ENETUNREACH */
        {{198, 51, 100, 1}, N_PACKETS, 0}, /* an unreachable route: EHOSTUNREACH */
        {{203, 0, 113, 1}, 0, N_PACKETS},  /* a prohibited one: EACCES, as a firewall's EPERM */
        {{127, 0, 0, 1}, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int has_offload = 0; has_offload < 2; has_offload++) {
            struct udp_address endpoint = {.family = UDP_ADDRESS_IPV4, .port = 9};
            memcpy(endpoint.address, cases[i].address, sizeof cases[i].address);
            datagram_peers_open(AF_INET, has_offload);
            peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
            datagrams_commit(0, N_PACKETS, SIZE, SIZE);
            datagrams_commit(1, 1, SIZE, SIZE);
            datagram_peers_run();
            CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_no_route), cases[i].n_no_route);
            CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_not_sent), cases[i].n_not_sent);
            CHECK_EQUAL(datagram_peer_receive_all(1), 1);
            datagram_peers_close();
        }
    }
}

int main(void) {
    if (unshare(CLONE_NEWNET) < 0) {
        printf("  skip  needs a network namespace of its own (root)\n");
        return EXIT_SKIP;
    }
    CHECK_EQUAL(system("ip link set lo up && ip route add unreachable 198.51.100.0/24 && "
                       "ip route add prohibit 203.0.113.0/24"),
                0);
    RUN(datagrams_without_a_route_are_counted_apart);
    return EXIT_SUCCESS;
}
