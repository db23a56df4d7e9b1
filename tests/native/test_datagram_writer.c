/* The link-writer on UDP: few calls, every peer's datagrams whole and in order, and what the kernel
 * does not take counted with the reason. test_datagram_mtu.c is about what is too long. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "datagram_peers.h"
#include "outbound/datagram_train.h"
#include "outbound/datagram_writer.h"
#include "formats.h"
#include "sockets.h"
#include "random.h"

static struct datagram_peers *const peers = &datagram_peers;

static uint64_t calls(enum stats_call call) {
    return stats_read_call(peers->lane.stats, ROLE_link_writer, call);
}

/* What the peer gets next: so many datagrams in one train. */
static void check_train(unsigned slot, unsigned n_expected, size_t n_bytes) {
    unsigned n;
    CHECK_EQUAL(datagram_peer_receive(slot, &n), n_bytes);
    CHECK_EQUAL(n, n_expected);
}

static void commit_singles(unsigned slot, const size_t *sizes, size_t n) {
    for (size_t i = 0; i < n; i++)
        datagrams_commit(slot, 1, sizes[i], sizes[i]);
}

static void end(void) {
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        CHECK_EQUAL(datagram_peer_receive_all(slot), 0);
    datagram_peers_check_balance();
    datagram_peers_close();
}

/* -- trains ------------------------------------------------------------------------------------ */

static void a_record_of_many_datagrams_goes_out_as_one_train(void) {
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        datagram_peers_open(families[i], true);
        datagrams_commit(0, 64, 1000, 1000);
        datagrams_commit(1, 10, 1400, 33);
        datagram_peers_run();
        check_train(0, 64, 64000);
        check_train(1, 10, 9 * 1400 + 33);
        CHECK_EQUAL(calls(CALL_sendmmsg), 1);
        CHECK_EQUAL(calls(CALL_sendmsg), 0);
        end();
    }
}

static void datagrams_of_one_length_join_and_a_shorter_one_is_the_last(void) {
    datagram_peers_open(AF_INET, true);
    commit_singles(0, (const size_t[]){500, 500, 300, 500, 500, 501, 501, 20, 20}, 9);
    datagram_peers_run();
    check_train(0, 3, 1300);
    check_train(0, 2, 1000);
    check_train(0, 3, 1022);
    check_train(0, 1, 20);
    CHECK_EQUAL(calls(CALL_sendmmsg), 1);
    end();
}

static void records_of_one_segment_length_join_as_far_as_a_train_goes(void) {
    datagram_peers_open(AF_INET, true);
    datagrams_commit(0, 40, 1000, 1000);
    datagrams_commit(0, 10, 1000, 1000);
    datagrams_commit(0, 1, 1000, 1000);
    datagrams_commit(0, 13, 1000, 7);
    datagrams_commit(0, 2, 1000, 1000);  /* behind a short one */
    datagrams_commit(0, 63, 1000, 1000); /* too many for one train */
    datagrams_commit(0, 45, 1440, 1440);
    datagrams_commit(0, 1, 1440, 1440); /* too many bytes */
    datagram_peers_run();
    check_train(0, 64, 63007);
    check_train(0, 2, 2000);
    check_train(0, 63, 63000);
    check_train(0, 45, 64800);
    check_train(0, 1, 1440);
    end();
}

static void a_full_batch_takes_few_calls(void) {
    datagram_peers_open(AF_INET, true);
    for (unsigned i = 0; i < BATCH_RECORDS_MAX; i++)
        datagrams_commit(0, 1, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(calls(CALL_sendmmsg), 1);
    CHECK_EQUAL(datagram_peer_receive_all(0), BATCH_RECORDS_MAX);
    for (unsigned i = 0; i < BATCH_RECORDS_MAX; i++) /* nothing to join: each goes to another */
        datagrams_commit(i % N_DATAGRAM_PEERS, 1, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(calls(CALL_sendmmsg), 1 + BATCH_RECORDS_MAX / TRAINS_MAX);
    CHECK(TRAINS_MAX >= 16);
    for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
        CHECK_EQUAL(datagram_peer_receive_all(slot), BATCH_RECORDS_MAX / N_DATAGRAM_PEERS);
    CHECK_EQUAL(calls(CALL_sendmsg), 0);
    end();
}

static void without_offload_each_datagram_goes_by_itself(void) {
    datagram_peers_open(AF_INET, false);
    datagrams_commit(0, 20, 1000, 10);
    datagrams_commit(1, 1, 100, 100);
    commit_singles(2, (const size_t[]){100, 100, 100}, 3);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(0), 20);
    CHECK_EQUAL(datagram_peer_receive_all(1), 1);
    CHECK_EQUAL(datagram_peer_receive_all(2), 3);
    CHECK_EQUAL(calls(CALL_sendmsg), 23);
    end();
}

static void publish_some(struct random *random) {
    size_t n = 1 + random_below(random, 30), n_bytes = 0;
    const size_t sizes[] = {100, 100, 100, 333, 1400};
    while (n-- > 0 && n_bytes < 60000) { /* what the peers' sockets hold */
        size_t size = sizes[random_below(random, 5)];
        unsigned n_datagrams = (unsigned)(1 + random_below(random, random_below(random, 30) + 1));
        size_t last = random_below(random, 2) == 0 ? size : 5 + random_below(random, size - 4);
        datagrams_commit((unsigned)random_below(random, N_DATAGRAM_PEERS), n_datagrams, size, last);
        n_bytes += n_datagrams * size;
    }
}

static void whatever_is_sent_arrives_whole_and_in_order(void) {
    struct random random = {31};
    for (int has_offload = 0; has_offload < 2; has_offload++) {
        datagram_peers_open(AF_INET, has_offload);
        for (int round = 0; round < 400; round++) {
            publish_some(&random);
            datagram_peers_run();
            for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
                datagram_peer_receive_all(slot);
        }
        for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
            CHECK_EQUAL(peers->peers[slot].n_received, peers->peers[slot].n_published);
        CHECK_EQUAL(peers->n_events, 0);
        end();
    }
}

/* -- what does not go out ---------------------------------------------------------------------- */

static void a_peer_that_is_nowhere_is_counted_and_the_others_get_theirs(void) {
    const struct udp_address nowhere = {0};
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        datagram_peers_open(families[i], true);
        peer_write_endpoint(&peers->lane.peers->by_link_reader[1], &nowhere);
        for (int round = 0; round < 10; round++) {
            for (unsigned slot = 0; slot < N_DATAGRAM_PEERS; slot++)
                datagrams_commit(slot, 1 + slot, 200, 200);
            datagram_peers_run();
            CHECK_EQUAL(datagram_peer_receive_all(0), 1);
            CHECK_EQUAL(datagram_peer_receive_all(2), 3);
            CHECK_EQUAL(datagram_peer_receive_all(3), 4);
        }
        CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_not_sent), 10 * 2);
        CHECK(link_writer_of(peers->worker.loop)->sockets[0].has_offload);
        end();
    }
}

/* One datagram may hold a super-packet, and a keepalive counts as none. */
static void the_packets_that_are_lost_are_counted_and_not_the_datagrams(void) {
    const struct udp_address nowhere = {0};
    datagram_peers_open(AF_INET, true);
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &nowhere);
    datagrams_commit(0, 1, 500, 500)->n_packets = 40;
    datagrams_commit(0, 1, 32, 32)->n_packets = 0;
    datagrams_commit(0, 3, 400, 400);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_not_sent), 40 + 3);
    peers->peers[0].n_published = 43; /* as packets */
    end();
}

static void a_datagram_for_a_link_that_is_no_more_is_dropped(void) {
    struct link_format format = datagram_format(0);
    datagram_peers_open(AF_INET, true);
    datagrams_commit(0, 5, 200, 200)->link_id = 99;
    datagrams_commit(0, 5, 200, 200);
    CHECK_EQUAL(loop_attach_link(peers->worker.loop, 1, 77, -1, &format), 0);
    datagrams_commit(1, 1, 200, 200); /* sealed before */
    datagram_peers_run();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_no_link), 6);
    CHECK_EQUAL(datagram_peer_receive_all(0), 5);
    end();
}

static void to_a_peer_whose_route_leads_into_the_tunnel_nothing_is_sent(void) {
    datagram_peers_open(AF_INET, true);
    loop_block_link(peers->worker.loop, 0, true);
    loop_block_link(peers->worker.loop, N_PEER_SLOTS, true);
    for (unsigned slot = 0; slot < 2; slot++)
        datagrams_commit(slot, 3, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_inside_tunnel), 3);
    CHECK_EQUAL(datagram_peer_receive_all(0), 0);
    CHECK_EQUAL(datagram_peer_receive_all(1), 3);
    CHECK_EQUAL(loop_send_message(peers->worker.loop, 0, (const uint8_t *)"?????", 5), -ELOOP);
    loop_block_link(peers->worker.loop, 0, false);
    datagrams_commit(0, 3, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(0), 3);
    end();
}

/* -- where the peer is ------------------------------------------------------------------------- */

static void datagrams_follow_the_peer_to_its_new_endpoint(void) {
    datagram_peers_open(AF_INET, true);
    datagrams_commit(0, 3, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(0), 3);
    /* The two change places. */
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &peers->peers[1].endpoint);
    int fd = peers->peers[0].fd;
    peers->peers[0].fd = peers->peers[1].fd;
    peers->peers[1].fd = fd;
    datagrams_commit(0, 3, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(0), 3);
    end();
}

static void our_address_that_has_gone_is_no_longer_sent_from(void) {
    datagram_peers_open(AF_INET, true);
    struct udp_address endpoint = peers->peers[0].endpoint;
    memcpy(endpoint.local, (const uint8_t[]){192, 0, 2, 1}, 4); /* not one of ours */
    for (unsigned round = 1; round <= 10; round++) {
        peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
        datagrams_commit(0, 1, 200, 200);
        datagram_peers_run();
        datagrams_commit(0, 9, 200, 200);
        datagram_peers_run();
        CHECK_EQUAL(datagram_peer_receive_all(0), 10);
        CHECK_EQUAL(calls(CALL_sendmsg), round); /* after that the train went as one */
    }
    CHECK_EQUAL(peers->n_events, 0); /* it was never the offload */
    end();
}

/* A link-writer that died wrote of the stream that the peer had before. */
static void on_a_new_link_nothing_has_waited_yet(void) {
    struct link_format format = datagram_format(0);
    datagram_peers_open(AF_INET, true);
    loop_detach_link(peers->worker.loop, 1);
    peer_set(&peers->lane.peers->by_link_writer[1].waiting_since_ns, 1);
    CHECK_EQUAL(loop_attach_link(peers->worker.loop, 1, 1, -1, &format), 0);
    CHECK_EQUAL(atomic_load(&peers->lane.peers->by_link_writer[1].waiting_since_ns), 0);
    end();
}

static void records_of_one_socket_do_not_go_by_another(void) {
    struct sockaddr_in address = {.sin_family = AF_INET}, from[2];
    socklen_t length = sizeof address;
    uint8_t bytes[2000];
    datagram_peers_open(AF_INET, true);
    int second = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_EQUAL(bind(second, (const struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(loop_add_socket(peers->worker.loop, 1, second, true), 0);
    struct udp_address endpoint = peers->peers[1].endpoint;
    endpoint.socket_index = 1;
    peer_write_endpoint(&peers->lane.peers->by_link_reader[1], &endpoint);
    for (unsigned slot = 0; slot < 2; slot++)
        datagrams_commit(slot, 1, 200, 200);
    datagram_peers_run();
    for (unsigned slot = 0; slot < 2; slot++) {
        length = sizeof from[slot];
        CHECK_EQUAL(recvfrom(peers->peers[slot].fd, bytes, sizeof bytes, 0,
                             (struct sockaddr *)&from[slot], &length),
                    200);
        peers->peers[slot].n_received++;
    }
    length = sizeof address;
    CHECK_EQUAL(getsockname(second, (struct sockaddr *)&address, &length), 0);
    CHECK(from[0].sin_port != address.sin_port);
    CHECK_EQUAL(from[1].sin_port, address.sin_port);
    close(second);
    end();
}

/* Of a socket that is gone, or not there yet, the link-reader may know more than this worker. */
static void what_is_for_a_socket_that_is_not_there_goes_by_another_that_reaches_the_peer(void) {
    datagram_peers_open(AF_INET, true);
    struct udp_address endpoint = peers->peers[1].endpoint;
    endpoint.socket_index = 5;
    peer_write_endpoint(&peers->lane.peers->by_link_reader[1], &endpoint);
    datagrams_commit(1, 3, 200, 200);
    datagram_peers_run();
    check_train(1, 3, 600);
    endpoint.family = UDP_ADDRESS_IPV6; /* which no socket reaches */
    peer_write_endpoint(&peers->lane.peers->by_link_reader[1], &endpoint);
    datagrams_commit(1, 3, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_not_sent), 3);
    loop_remove_socket(peers->worker.loop, 0);
    datagrams_commit(0, 2, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peers_dropped(DROP_link_writer_not_sent), 5);
    end();
}

/* Peers on streams have the link-writer in common with those on UDP. */
static void a_record_for_a_stream_goes_by_no_datagram(void) {
    struct link_format format = sealed_format(MODE_TUN, false);
    uint8_t bytes[2000];
    int stream[2];
    datagram_peers_open(AF_INET, true);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    CHECK_EQUAL(loop_attach_link(peers->worker.loop, 2, 2, stream[0], &format), 0);
    for (unsigned slot = 1; slot < 4; slot++)
        datagrams_commit(slot, 1, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(1), 1);
    CHECK_EQUAL(datagram_peer_receive_all(2), 0);
    CHECK_EQUAL(datagram_peer_receive_all(3), 1);
    CHECK_EQUAL(read(stream[1], bytes, sizeof bytes), 200);
    peers->peers[2].n_received++;
    loop_detach_link(peers->worker.loop, 2);
    end();
    pair_close(stream);
}

int main(void) {
    RUN(a_record_of_many_datagrams_goes_out_as_one_train);
    RUN(datagrams_of_one_length_join_and_a_shorter_one_is_the_last);
    RUN(records_of_one_segment_length_join_as_far_as_a_train_goes);
    RUN(a_full_batch_takes_few_calls);
    RUN(without_offload_each_datagram_goes_by_itself);
    RUN(whatever_is_sent_arrives_whole_and_in_order);
    RUN(a_peer_that_is_nowhere_is_counted_and_the_others_get_theirs);
    RUN(the_packets_that_are_lost_are_counted_and_not_the_datagrams);
    RUN(a_datagram_for_a_link_that_is_no_more_is_dropped);
    RUN(to_a_peer_whose_route_leads_into_the_tunnel_nothing_is_sent);
    RUN(datagrams_follow_the_peer_to_its_new_endpoint);
    RUN(our_address_that_has_gone_is_no_longer_sent_from);
    RUN(on_a_new_link_nothing_has_waited_yet);
    RUN(records_of_one_socket_do_not_go_by_another);
    RUN(what_is_for_a_socket_that_is_not_there_goes_by_another_that_reaches_the_peer);
    RUN(a_record_for_a_stream_goes_by_no_datagram);
    return EXIT_SUCCESS;
}
