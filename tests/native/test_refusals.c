/* The link-writer and trains that the kernel refuses: whose fault it is, who pays for it, and when
 * it is tried again. The fault is a real one: a socket without checksums (SO_NO_CHECK) has no
 * UDP_SEGMENT (net/ipv4/udp.c), and sends single datagrams all the same. Time is set forward. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "check.h"
#include "datagram_peers.h"
#include "outbound/datagram_writer.h"

enum { MAX = 8, N_EACH = 10 };

static struct datagram_peers *const peers = &datagram_peers;

static uint64_t calls(enum stats_call call) {
    return stats_read_call(peers->lane.stats, ROLE_link_writer, call);
}

static uint64_t n_refused(void) {
    return stats_read_counter(peers->lane.stats, ROLE_link_writer, COUNTER_refused_offloads);
}

static void open_all(void) {
    datagram_peers_open(AF_INET, true);
}

static void set_fault(int is_there) {
    CHECK_EQUAL(setsockopt(peers->socket, SOL_SOCKET, SO_NO_CHECK, &is_there, sizeof is_there), 0);
}

static struct refusals *trains_of(unsigned slot) {
    return &link_writer_of(peers->worker.loop)->links[slot]->trains;
}

/* One train for the peer, which gets all of it. Returns whether it went as one. */
static bool send_train(unsigned slot) {
    uint64_t n_singly = calls(CALL_sendmsg);
    datagrams_commit(slot, N_EACH, 300, 300);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(slot), N_EACH);
    return calls(CALL_sendmsg) == n_singly;
}

static void check_event(size_t i, unsigned slot, int error) {
    CHECK_EQUAL(peers->n_events, i + 1);
    CHECK_EQUAL(peers->events[i].kind, EVENT_REFUSAL);
    CHECK_EQUAL(peers->events[i].slot, slot);
    CHECK_EQUAL(peers->events[i].index, REFUSED_TRAINS);
    CHECK_EQUAL(peers->events[i].error, error);
}

static void end(void) {
    datagram_peers_check_balance();
    datagram_peers_close();
}

static void trains_that_are_refused_go_singly_and_after_some_are_no_longer_tried(void) {
    open_all();
    set_fault(1);
    for (unsigned i = 1; i <= MAX; i++) {
        CHECK(trains_of(0)->off_until_ns == 0);
        CHECK(!send_train(0));
        CHECK_EQUAL(n_refused(), i);
    }
    CHECK(trains_of(0)->off_until_ns > clock_now_ns() + REFUSED_RETRY_NS / 2);
    CHECK(trains_of(0)->off_until_ns <= clock_now_ns() + REFUSED_RETRY_NS);
    check_event(0, 0, EINVAL);
    uint64_t n_trains = calls(CALL_sendmmsg);
    CHECK(!send_train(0));
    CHECK_EQUAL(calls(CALL_sendmmsg), n_trains);
    CHECK_EQUAL(n_refused(), MAX);
    end();
}

static void another_peers_trains_go_on(void) {
    open_all();
    set_fault(1);
    for (unsigned i = 0; i < MAX; i++)
        send_train(0);
    set_fault(0);
    CHECK(!send_train(0));
    CHECK(send_train(1));
    end();
}

static void a_train_that_is_taken_ends_the_count(void) {
    open_all();
    for (unsigned i = 0; i < 3 * MAX; i++) {
        set_fault(i % MAX != 0);
        CHECK_EQUAL(send_train(0), i % MAX == 0);
    }
    CHECK_EQUAL(trains_of(0)->off_until_ns, 0);
    CHECK_EQUAL(peers->n_events, 0);
    end();
}

static void a_lone_datagram_that_is_taken_ends_no_count(void) {
    open_all();
    set_fault(1);
    for (unsigned i = 0; i < MAX; i++) {
        CHECK_EQUAL(trains_of(0)->off_until_ns, 0);
        send_train(0);
        datagrams_commit(0, 1, 200, 200);
        datagram_peers_run();
        CHECK_EQUAL(datagram_peer_receive_all(0), 1);
    }
    CHECK(trains_of(0)->off_until_ns > 0);
    end();
}

static void after_a_while_one_train_is_the_trial_and_loses_nothing(void) {
    open_all();
    set_fault(1);
    for (unsigned i = 0; i < MAX; i++)
        send_train(0);
    trains_of(0)->off_until_ns = 1; /* its time has passed, the fault has not */
    uint64_t n_trains = calls(CALL_sendmmsg);
    CHECK(!send_train(0));
    CHECK(!send_train(0));
    CHECK_EQUAL(calls(CALL_sendmmsg), n_trains + 1);
    CHECK_EQUAL(peers->n_events, 1); /* nothing new */
    set_fault(0);
    trains_of(0)->off_until_ns = 1;
    CHECK(send_train(0));
    CHECK_EQUAL(trains_of(0)->off_until_ns, 0);
    check_event(1, 0, 0);
    CHECK(send_train(0));
    end();
}

static void a_fault_of_our_address_is_none_of_the_offload(void) {
    open_all();
    struct udp_address endpoint = peers->peers[0].endpoint;
    memcpy(endpoint.local, (const uint8_t[]){192, 0, 2, 1}, 4); /* not one of ours */
    for (unsigned i = 1; i <= 3 * MAX; i++) {
        peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
        CHECK(!send_train(0));
        CHECK_EQUAL(calls(CALL_sendmsg), i); /* the same train, without our address */
        CHECK(link_writer_of(peers->worker.loop)->links[0]->sourceless_until_ns > clock_now_ns());
    }
    CHECK_EQUAL(n_refused(), 0);
    CHECK_EQUAL(trains_of(0)->n, 0);
    CHECK_EQUAL(peers->n_events, 0);
    end();
}

static void without_offload_our_address_that_has_gone_costs_no_datagram(void) {
    datagram_peers_open(AF_INET, false);
    struct udp_address endpoint = peers->peers[0].endpoint;
    memcpy(endpoint.local, (const uint8_t[]){192, 0, 2, 1}, 4);
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
    CHECK(!send_train(0));
    CHECK_EQUAL(calls(CALL_sendmsg), N_EACH + 1);
    CHECK_EQUAL(loop_send_message(peers->worker.loop, 0, (const uint8_t *)"?????", 5), 0);
    end();
}

static void an_address_that_is_back_is_sent_from_again(void) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    uint8_t bytes[16];
    open_all();
    struct udp_address endpoint = peers->peers[0].endpoint;
    memcpy(endpoint.local, (const uint8_t[]){127, 0, 0, 1}, 4);
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
    CHECK(send_train(0));
    link_writer_of(peers->worker.loop)->links[0]->sourceless_until_ns = 1; /* it had been refused */
    CHECK(send_train(0));
    CHECK_EQUAL(link_writer_of(peers->worker.loop)->links[0]->sourceless_until_ns, 0);
    CHECK_EQUAL(loop_send_message(peers->worker.loop, 0, (const uint8_t *)"?", 1), 0);
    CHECK_EQUAL(
        recvfrom(peers->peers[0].fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length), 1);
    CHECK_EQUAL(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
    end();
}

/* EINVAL may mean our address as well: it is not blamed for what goes wrong without it, too. */
static void our_address_is_not_blamed_for_a_fault_of_the_offload(void) {
    open_all();
    struct udp_address endpoint = peers->peers[0].endpoint;
    memcpy(endpoint.local, (const uint8_t[]){127, 0, 0, 1}, 4);
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &endpoint);
    set_fault(1);
    CHECK(!send_train(0));
    CHECK_EQUAL(link_writer_of(peers->worker.loop)->links[0]->sourceless_until_ns, 0);
    CHECK_EQUAL(n_refused(), 1);
    end();
}

static void what_does_not_go_out_singly_either_is_not_the_offloads_fault(void) {
    const struct udp_address nowhere = {0};
    open_all();
    peer_write_endpoint(&peers->lane.peers->by_link_reader[0], &nowhere);
    for (unsigned i = 0; i < 2 * MAX; i++) {
        datagrams_commit(0, N_EACH, 300, 300);
        datagram_peers_run();
    }
    CHECK_EQUAL(n_refused(), 0);
    CHECK_EQUAL(trains_of(0)->n, 0);
    end();
}

/* One datagram to the peer, to an address without a port if `is_refused`. */
static void send_one(unsigned slot, bool is_refused) {
    const struct udp_address nowhere = {0};
    struct peer_inbound *peer = &peers->lane.peers->by_link_reader[slot];
    struct udp_address before;
    uint64_t version = 0;
    CHECK(peer_read_endpoint(peer, &version, &before));
    if (is_refused)
        peer_write_endpoint(peer, &nowhere);
    datagrams_commit(slot, 1, 300, 300);
    datagram_peers_run();
    if (is_refused)
        peer_write_endpoint(peer, &before);
    else
        CHECK_EQUAL(datagram_peer_receive_all(slot), 1);
}

static void
datagrams_that_are_refused_are_reported_once_and_that_they_are_accepted_after_a_while(void) {
    open_all();
    struct refusals *refusals = &link_writer_of(peers->worker.loop)->links[0]->datagrams;
    for (int i = 0; i < 3; i++) { /* some are, some are not */
        send_one(0, true);
        send_one(0, false);
        send_one(1, false);
    }
    CHECK_EQUAL(peers->n_events, 1);
    CHECK_EQUAL(peers->events[0].index, REFUSED_DATAGRAMS);
    CHECK_EQUAL(peers->events[0].slot, 0);
    CHECK(peers->events[0].error != 0);
    refusals->off_until_ns = 1; /* its time has passed */
    send_one(1, false);
    CHECK_EQUAL(peers->n_events, 1);
    send_one(0, false);
    CHECK_EQUAL(peers->n_events, 2);
    CHECK_EQUAL(peers->events[1].index, REFUSED_DATAGRAMS);
    CHECK_EQUAL(peers->events[1].error, 0);
    end();
}

static void news_of_a_link_that_is_gone_are_none(void) {
    open_all();
    trains_of(0)->n = MAX;
    loop_note_news(peers->worker.loop, trains_of(0));
    CHECK_EQUAL(peers->worker.loop->n_news, 1);
    loop_detach_link(peers->worker.loop, 0);
    CHECK_EQUAL(peers->worker.loop->n_news, 0);
    datagrams_commit(1, 1, 200, 200);
    datagram_peers_run();
    CHECK_EQUAL(datagram_peer_receive_all(1), 1);
    CHECK_EQUAL(peers->n_events, 0);
    end();
}

int main(void) {
    RUN(trains_that_are_refused_go_singly_and_after_some_are_no_longer_tried);
    RUN(another_peers_trains_go_on);
    RUN(a_train_that_is_taken_ends_the_count);
    RUN(a_lone_datagram_that_is_taken_ends_no_count);
    RUN(after_a_while_one_train_is_the_trial_and_loses_nothing);
    RUN(a_fault_of_our_address_is_none_of_the_offload);
    RUN(without_offload_our_address_that_has_gone_costs_no_datagram);
    RUN(an_address_that_is_back_is_sent_from_again);
    RUN(our_address_is_not_blamed_for_a_fault_of_the_offload);
    RUN(what_does_not_go_out_singly_either_is_not_the_offloads_fault);
    RUN(datagrams_that_are_refused_are_reported_once_and_that_they_are_accepted_after_a_while);
    RUN(news_of_a_link_that_is_gone_are_none);
    return EXIT_SUCCESS;
}
