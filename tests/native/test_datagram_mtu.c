/* The link-writer on UDP where the path is narrower than a datagram: it is counted, reported once,
 * and cut into fragments only where that was asked for. The path is this namespace's loopback. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "outbound/link_writer.h"
#include "check.h"
#include "datagram_peers.h"

enum { TOO_LONG = 1500, SHORT = 1000, FITS_LINK = 1350 };

static const int families[] = {AF_INET, AF_INET6};
static struct datagram_peers *const peers = &datagram_peers;

static uint64_t too_long(void) {
    return datagram_peers_dropped(DROP_link_writer_emsgsize);
}

static void check_reported(size_t n, unsigned slot) {
    CHECK_EQUAL(peers->n_events, n);
    CHECK_EQUAL(peers->events[n - 1].kind, EVENT_TOO_LONG);
    CHECK_EQUAL(peers->events[n - 1].slot, slot);
    CHECK_EQUAL(peers->events[n - 1].link_id, slot);
}

static void end(void) {
    datagram_peers_check_balance();
    datagram_peers_close();
}

static void a_datagram_too_long_for_the_path_is_counted_and_reported(void) {
    for (int i = 0; i < 2; i++) {
        datagram_peers_open(families[i], true);
        datagrams_commit(0, 1, TOO_LONG, TOO_LONG);
        datagrams_commit(1, 1, SHORT, SHORT);
        datagram_peers_run();
        CHECK_EQUAL(too_long(), 1);
        check_reported(1, 0);
        CHECK_EQUAL(datagram_peer_receive_all(0), 0);
        CHECK_EQUAL(datagram_peer_receive_all(1), 1);
        datagrams_commit(2, 1, TOO_LONG, TOO_LONG);
        datagram_peers_run();
        check_reported(2, 2);
        end();
    }
}

/* The kernel refuses such a train as a whole. */
static void of_a_train_too_long_what_fits_goes_out(void) {
    for (int i = 0; i < 4; i++) {
        bool has_offload = i % 2 == 0;
        datagram_peers_open(families[i / 2], has_offload);
        for (int train = 0; train < 5; train++) {
            datagrams_commit(0, 10, TOO_LONG, SHORT);
            datagrams_commit(1, 10, SHORT, SHORT);
        }
        datagram_peers_run();
        CHECK_EQUAL(too_long(), 45);
        check_reported(1, 0);
        CHECK_EQUAL(datagram_peer_receive_all(0), 5);
        CHECK_EQUAL(datagram_peer_receive_all(1), 50);
        /* The path was to blame, and not the offload. */
        CHECK_EQUAL(link_writer_of(peers->worker.loop)->sockets[0].has_offload, has_offload);
        end();
    }
}

/* Records of one datagram each join; the last is shorter. */
static void of_records_that_are_too_long_the_one_that_fits_goes_out(void) {
    datagram_peers_open(AF_INET, true);
    for (int i = 0; i < 3; i++)
        datagrams_commit(0, 1, TOO_LONG, TOO_LONG);
    datagrams_commit(0, 1, SHORT, SHORT);
    datagram_peers_run();
    CHECK_EQUAL(too_long(), 3);
    check_reported(1, 0);
    CHECK_EQUAL(datagram_peer_receive_all(0), 1);
    end();
}

static void what_may_be_fragmented_arrives_and_the_next_may_not(void) {
    for (int i = 0; i < 2; i++) {
        datagram_peers_open(families[i], true);
        datagram_commit_fragments(0, TOO_LONG);
        datagrams_commit(0, 1, TOO_LONG, TOO_LONG);
        datagram_commit_fragments(0, 60000);
        datagram_commit_fragments(0, SHORT);
        datagrams_commit(0, 1, SHORT, SHORT);
        datagram_peers_run();
        CHECK_EQUAL(too_long(), 1);
        CHECK_EQUAL(datagram_peer_receive_all(0), 4);
        end();
    }
}

/* What a predecessor that was killed at the wrong moment leaves behind. */
static void a_fresh_link_writer_forbids_fragments_again(void) {
    for (int i = 0; i < 2; i++) {
        int cut = IP_PMTUDISC_OMIT, short_ones = 1280;
        datagram_peers_open(families[i], true);
        CHECK_EQUAL(setsockopt(peers->socket, IPPROTO_IP, IP_MTU_DISCOVER, &cut, sizeof cut), 0);
        if (families[i] == AF_INET6) {
            setsockopt(peers->socket, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &cut, sizeof cut);
            setsockopt(peers->socket, IPPROTO_IPV6, IPV6_MTU, &short_ones, sizeof short_ones);
        }
        CHECK_EQUAL(loop_add_socket(peers->worker.loop, 0, peers->socket, true), 0);
        datagrams_commit(0, 1, TOO_LONG, TOO_LONG);
        datagrams_commit(0, 1, FITS_LINK, FITS_LINK);
        datagram_peers_run();
        CHECK_EQUAL(too_long(), 1);
        CHECK_EQUAL(datagram_peer_receive_all(0), 1);
        end();
    }
}

static uint64_t fragments_of_ipv6(void) {
    unsigned long long n = 0;
    FILE *file = fopen("/proc/thread-self/net/snmp6", "r");
    char name[64], value[64];
    CHECK(file != NULL);
    while (fscanf(file, "%63s %63s", name, value) == 2)
        if (strcmp(name, "Ip6FragCreates") == 0)
            n = strtoull(value, NULL, 10);
    fclose(file);
    return n;
}

/* No router of IPv6 cuts, so what it takes is what every path does: of 1,232 bytes each. */
static void fragments_of_ipv6_fit_every_path(void) {
    datagram_peers_open(AF_INET6, true);
    uint64_t n_before = fragments_of_ipv6();
    datagram_commit_fragments(0, 2 * 1232 + 100);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(0), 1);
    CHECK_EQUAL(fragments_of_ipv6() - n_before, 3);
    end();
}

/* Routers may have to cut them, and this host need not. */
static void what_may_be_fragmented_and_fits_the_device_goes_as_a_train(void) {
    for (int i = 0; i < 4; i++) {
        bool has_offload = i % 2 == 0;
        datagram_peers_open(families[i / 2], has_offload);
        for (int n = 0; n < 10; n++)
            datagram_commit_fragments(0, SHORT);
        datagram_peers_run();
        CHECK_EQUAL(stats_read_call(peers->lane.stats, ROLE_link_writer, CALL_sendmsg),
                    has_offload ? 1 : 10);
        CHECK_EQUAL(datagram_peer_receive_all(0), 10);
        for (int n = 0; n < 10; n++)
            datagram_commit_fragments(0, TOO_LONG);
        datagrams_commit(0, 1, TOO_LONG, TOO_LONG);
        datagram_peers_run();
        CHECK_EQUAL(datagram_peer_receive_all(0), 10);
        CHECK_EQUAL(too_long(), 1);
        end();
    }
}

static void a_message_of_the_gateways_goes_out_whole_or_not_at_all(void) {
    static uint8_t message[TOO_LONG];
    for (int i = 0; i < 2; i++) {
        datagram_peers_open(families[i], true);
        struct loop *loop = peers->worker.loop;
        datagram_commit_fragments(0, TOO_LONG);
        datagram_peers_run();
        CHECK_EQUAL(datagram_peer_receive_all(0), 1);
        CHECK_EQUAL(loop_send_message(loop, 0, message, TOO_LONG), -EMSGSIZE);
        CHECK_EQUAL(loop_send_message(loop, 1, message, SHORT), 0);
        datagram_peers_run();
        check_reported(1, 0);
        CHECK_EQUAL(recv(peers->peers[0].fd, message, sizeof message, 0), -1);
        CHECK_EQUAL(recv(peers->peers[1].fd, message, sizeof message, 0), SHORT);
        CHECK_EQUAL(too_long(), 0); /* no packet */
        end();
    }
}

int main(void) {
    if (unshare(CLONE_NEWNET) < 0) {
        printf("  skip  needs a network namespace of its own (root)\n");
        return EXIT_SKIP;
    }
    CHECK_EQUAL(system("ip link set lo up mtu 1400"), 0);
    RUN(a_datagram_too_long_for_the_path_is_counted_and_reported);
    RUN(of_a_train_too_long_what_fits_goes_out);
    RUN(of_records_that_are_too_long_the_one_that_fits_goes_out);
    RUN(what_may_be_fragmented_arrives_and_the_next_may_not);
    RUN(a_fresh_link_writer_forbids_fragments_again);
    RUN(fragments_of_ipv6_fit_every_path);
    RUN(what_may_be_fragmented_and_fits_the_device_goes_as_a_train);
    RUN(a_message_of_the_gateways_goes_out_whole_or_not_at_all);
    return EXIT_SUCCESS;
}
