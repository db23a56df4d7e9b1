/* Which packets are answered by ICMP: no sender's answers are used up by another's packets. */
#include <string.h>

#include "outbound/answer_limit.h"
#include "check.h"
#include "sealing.h"

enum { HERE = -1, PEER_A = 3, PEER_B = 4 };

static const uint64_t S = 1000000000;
static struct answer_limit limit;

static void begin(void) {
    CHECK_EQUAL(answer_limit_init(&limit), 0);
}

/* Of `n` packets from one IPv4 address, how many are answered. */
static unsigned answered(unsigned n, enum answer_kind kind, uint32_t source, int origin,
                         unsigned slot, uint64_t now_ns) {
    uint8_t packet[100];
    unsigned n_answered = 0;
    ipv4_make(packet, sizeof packet, source, 0x0a000009);
    for (unsigned i = 0; i < n; i++)
        n_answered += answer_limit_allows(&limit, kind, packet, origin, slot, now_ns);
    return n_answered;
}

/* From as many addresses as there are packets. */
static unsigned answered_of_many(unsigned n, enum answer_kind kind, int origin, unsigned slot,
                                 uint64_t now_ns) {
    static uint32_t source = 0x0c000000;
    unsigned n_answered = 0;
    for (unsigned i = 0; i < n; i++)
        n_answered += answered(1, kind, ++source, origin, slot, now_ns);
    return n_answered;
}

static void a_sender_has_a_burst_and_a_rate(void) {
    begin();
    CHECK_EQUAL(answered(1000, ANSWER_TOO_BIG, 1, HERE, PEER_A, S), ANSWERS_PER_SENDER_AND_PEER);
    CHECK_EQUAL(answered(10, ANSWER_TOO_BIG, 1, HERE, PEER_A, S + S / ANSWERS_PER_SENDER_AND_PEER),
                1);
    CHECK_EQUAL(answered(1000, ANSWER_TOO_BIG, 1, HERE, PEER_A, 9 * S),
                ANSWERS_PER_SENDER_AND_PEER);
}

static void what_is_unreachable_takes_nothing_of_what_is_too_big(void) {
    begin();
    answered(100000, ANSWER_NO_SESSION, 1, HERE, PEER_A, S);
    answered_of_many(100000, ANSWER_NO_SESSION, HERE, PEER_A, S);
    answered(100000, ANSWER_NO_PEER, 1, HERE, 0, S);
    answered_of_many(100000, ANSWER_NO_PEER, HERE, 0, S);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 1, HERE, PEER_B, S), 40);
}

static void what_is_for_no_peer_takes_nothing_of_what_is_for_an_absent_peer(void) {
    begin();
    answered_of_many(100000, ANSWER_NO_PEER, HERE, 0, S);
    CHECK_EQUAL(answered(40, ANSWER_NO_SESSION, 1, HERE, 0, S), 40);
}

static void one_loud_sender_takes_nothing_of_the_next_towards_the_same_peer(void) {
    begin();
    answered(100000, ANSWER_TOO_BIG, 1, HERE, PEER_A, S);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 2, HERE, PEER_A, S), 40);
}

/* On our own side, one host of many, which are one origin. */
static void one_loud_sender_towards_many_peers_takes_nothing_of_the_next(void) {
    begin();
    unsigned n_answered = 0;
    for (unsigned slot = 10; slot < 50; slot++)
        n_answered += answered(1000, ANSWER_TOO_BIG, 1, HERE, slot, S);
    CHECK_EQUAL(n_answered, ANSWERS_PER_SENDER);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 2, HERE, PEER_B, S), 40);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 2, HERE, 10, S), 40);
}

static void many_senders_towards_one_peer_take_nothing_of_another_peers(void) {
    begin();
    CHECK(answered_of_many(10000, ANSWER_TOO_BIG, HERE, PEER_A, S) >=
          ANSWERS_PER_ORIGIN_AND_PEER - 1);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 1, HERE, PEER_A, S), 0);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 1, HERE, PEER_B, S), 40);
}

/* A peer with a network of its own, behind us, sends from every address in it. */
static void a_peers_many_addresses_take_nothing_of_other_origins(void) {
    begin();
    for (unsigned slot = 10; slot < 500; slot++)
        answered_of_many(300, ANSWER_TOO_BIG, PEER_A, slot, S);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 1, PEER_A, PEER_B, S), 0);
    CHECK_EQUAL(answered(40, ANSWER_TOO_BIG, 1, HERE, PEER_B, S), 40);
}

static void an_ipv6_host_is_its_network(void) {
    uint8_t packet[100];
    unsigned n_answered = 0;
    begin();
    ipv6_make(packet, sizeof packet, 1, 2);
    for (int i = 0; i < 1000; i++) {
        memcpy(packet + 8 + 12, &i, sizeof i); /* the end of the source */
        n_answered += answer_limit_allows(&limit, ANSWER_TOO_BIG, packet, HERE, PEER_A, S);
    }
    CHECK_EQUAL(n_answered, ANSWERS_PER_SENDER_AND_PEER);
    packet[8 + 6] ^= 1; /* another /64 */
    CHECK(answer_limit_allows(&limit, ANSWER_TOO_BIG, packet, HERE, PEER_A, S));
}

static void all_together_have_a_limit(void) {
    begin();
    unsigned n_answered = 0;
    for (int origin = 0; origin < 900; origin++)
        n_answered += answered_of_many(20, ANSWER_TOO_BIG, origin, 1000, S);
    CHECK_EQUAL(n_answered, ANSWERS_BURST);
    CHECK_EQUAL(answered_of_many(20, ANSWER_NO_SESSION, HERE, PEER_A, S), 20);
}

int main(void) {
    RUN(a_sender_has_a_burst_and_a_rate);
    RUN(what_is_unreachable_takes_nothing_of_what_is_too_big);
    RUN(what_is_for_no_peer_takes_nothing_of_what_is_for_an_absent_peer);
    RUN(one_loud_sender_takes_nothing_of_the_next_towards_the_same_peer);
    RUN(one_loud_sender_towards_many_peers_takes_nothing_of_the_next);
    RUN(many_senders_towards_one_peer_take_nothing_of_another_peers);
    RUN(a_peers_many_addresses_take_nothing_of_other_origins);
    RUN(an_ipv6_host_is_its_network);
    RUN(all_together_have_a_limit);
    return EXIT_SUCCESS;
}
