/* Which handshake messages pass the gate; the clock is the test's. */
#define _GNU_SOURCE
#include "check.h"
#include "handshake_gate.h"
#include "handshakes.h"
#include "random.h"
#include "session.h"

enum { MS = 1000000, S = 1000 * MS };

static const uint8_t key[SEAL_KEY] = {7, 1}, other_key[SEAL_KEY] = {7, 2};
static struct handshake_gate gate;
static uint8_t message[HANDSHAKE_BYTES_MAX];

static struct endpoint ipv4_source(uint32_t address, uint16_t port) {
    struct endpoint source = {.family = ENDPOINT_IPV4, .port = port};
    memcpy(source.address, &address, sizeof address);
    return source;
}

static struct endpoint ipv6_source(uint64_t network, uint64_t host) {
    struct endpoint source = {.family = ENDPOINT_IPV6, .port = 9};
    memcpy(source.address, &network, sizeof network);
    memcpy(source.address + 8, &host, sizeof host);
    return source;
}

static enum gate_verdict judge(size_t length, struct endpoint source, uint64_t now_ns) {
    return handshake_gate_judge(&gate, message, length, &source, now_ns);
}

static size_t count_open(size_t n, struct endpoint source, uint64_t now_ns) {
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++)
        n_open += judge(handshake_make(message, 1, 0, key), source, now_ns) == GATE_OPEN;
    return n_open;
}

/* -- mac1 -------------------------------------------------------------------------------------- */

/* From Python's hashlib.blake2s(bytes(range(116)), key=bytes(...), digest_size=16). */
static void a_mac_is_that_of_the_standard(void) {
    const uint8_t expected[MAC_LENGTH] = {0x30, 0x97, 0xe7, 0x59, 0xb2, 0x0f, 0x6d, 0x8c,
                                          0x3f, 0x02, 0x57, 0x21, 0x96, 0x60, 0x54, 0xbd};
    uint8_t text[116], known_key[SEAL_KEY], mac[MAC_LENGTH];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof known_key; i++)
        known_key[i] = (uint8_t)(3 * 17 + i);
    struct mac_key *mac_key = mac_key_new(known_key);
    CHECK(mac_is_valid(mac_key, text, sizeof text, expected));
    CHECK(mac_is_valid(mac_key, text, sizeof text, expected)); /* one use does not spoil the next */
    CHECK(!mac_is_valid(mac_key, text, sizeof text - 1, expected));
    mac_key_free(mac_key);
    handshake_mac(mac, known_key, text, sizeof text); /* and so the other claims can rely on it */
    CHECK_EQUAL(memcmp(mac, expected, sizeof mac), 0);
}

static void a_message_with_any_bit_of_what_mac1_covers_or_of_mac1_bent_is_stopped(void) {
    for (unsigned type = MESSAGE_INITIATION; type <= MESSAGE_RESPONSE; type++) {
        CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
        size_t length = handshake_make(message, type, 0x33, key);
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_OPEN);
        for (size_t bit = 32; bit < 8 * (length - MAC_LENGTH); bit++) {
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_BAD_MAC1);
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        message[length - 1] ^= 1; /* mac2 is the gateway's to judge */
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_OPEN);
        handshake_gate_free(&gate);
    }
}

static void a_mac1_under_another_key_is_stopped_and_costs_no_token(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    size_t length = handshake_make(message, 1, 0, other_key);
    for (int i = 0; i < 3 * HANDSHAKES_BURST; i++)
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_BAD_MAC1);
    CHECK_EQUAL(count_open(HANDSHAKES_BURST, ipv4_source(1, 1), S), HANDSHAKES_BURST);
    handshake_gate_free(&gate);
}

static void without_a_key_only_cookie_replies_pass(void) {
    gate = (struct handshake_gate){0};
    for (unsigned type = 1; type <= 3; type++) {
        size_t length = handshake_make(message, type, 0, key);
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S),
                    type == MESSAGE_COOKIE ? GATE_OPEN : GATE_BAD_MAC1);
    }
}

/* -- rates ------------------------------------------------------------------------------------- */

static void a_source_may_send_a_burst_and_then_its_rate(void) {
    const struct endpoint source = ipv4_source(0x0100007f, 1);
    const uint64_t interval_ns = S / HANDSHAKES_PER_SECOND;
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    uint64_t now_ns = 5 * (uint64_t)S;
    CHECK_EQUAL(count_open(1000, source, now_ns), HANDSHAKES_BURST);
    CHECK_EQUAL(count_open(10, source, now_ns + interval_ns - 1), 0);
    CHECK_EQUAL(count_open(10, source, now_ns += interval_ns), 1);
    CHECK_EQUAL(count_open(1000, source, now_ns += 7 * interval_ns), 7);
    CHECK_EQUAL(count_open(1000, source, now_ns + 3600 * (uint64_t)S), HANDSHAKES_BURST);
    handshake_gate_free(&gate);
}

static void cookie_replies_need_no_mac1_and_use_up_tokens(void) {
    const struct endpoint source = ipv4_source(1, 1);
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    for (int i = 0; i < HANDSHAKES_BURST; i++)
        CHECK_EQUAL(judge(handshake_make(message, MESSAGE_COOKIE, 9, key), source, S), GATE_OPEN);
    CHECK_EQUAL(judge(handshake_make(message, MESSAGE_COOKIE, 9, key), source, S), GATE_TOO_MANY);
    CHECK_EQUAL(count_open(10, source, S), 0);
    handshake_gate_free(&gate);
}

static void what_one_host_has_is_one_source(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    size_t n_open = 0;
    for (uint16_t port = 0; port < 1000; port++)
        n_open += count_open(1, ipv4_source(77, port), S);
    CHECK_EQUAL(n_open, HANDSHAKES_BURST);
    for (uint64_t host = 0; host < 1000; host++)
        n_open += count_open(1, ipv6_source(0xfd77, host), S);
    CHECK_EQUAL(n_open, 2 * HANDSHAKES_BURST);
    handshake_gate_free(&gate);
}

/* Sources share buckets by chance: of 1,000 others, one loud source holds up none or one. */
static void one_loud_source_holds_up_no_others(void) {
    struct random random = {13};
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    count_open(10000, ipv4_source(1, 1), S);
    size_t n_open = 0;
    for (unsigned i = 0; i < 500; i++) {
        uint32_t address = (uint32_t)random_next(&random);
        n_open += count_open(1, i % 2 == 0 ? ipv4_source(address, 1) : ipv6_source(address, 1), S);
    }
    CHECK(n_open >= 498);
    handshake_gate_free(&gate);
}

/* However many sources there are, the gateway is not asked for more than it can work off. */
static void all_sources_together_have_a_limit(void) {
    size_t n_open = 0;
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    for (uint32_t i = 0; i < 20000; i++)
        n_open +=
            count_open(1, ipv4_source(i, 1), S + i * (uint64_t)50000); /* one second of them */
    CHECK(n_open >= HANDSHAKES_PER_SECOND_OF_ALL);
    CHECK(n_open <= HANDSHAKES_PER_SECOND_OF_ALL + HANDSHAKES_BURST_OF_ALL + 1);
    handshake_gate_free(&gate);
}

/* Neighbours, as an attacker with a network of his own would have, spread over the buckets. */
static void neighbouring_addresses_do_not_fall_into_one_bucket(void) {
    size_t n_open = 0;
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    for (uint32_t i = 0; i < 64; i++) /* 25 ms apart, so that the limit of all is not reached */
        n_open +=
            count_open(HANDSHAKES_BURST, ipv4_source(i << 24 | 0x0a, 1), S + (uint64_t)i * S / 40);
    CHECK(n_open > 58 * HANDSHAKES_BURST);
    handshake_gate_free(&gate);
    CHECK_EQUAL(handshake_gate_init(&gate, key), 0);
    for (uint64_t i = n_open = 0; i < 256; i++)
        n_open += count_open(HANDSHAKES_BURST, ipv6_source(i << 56 | 0xfd, 1), S);
    CHECK(n_open > 230 * HANDSHAKES_BURST);
    handshake_gate_free(&gate);
}

int main(void) {
    RUN(a_mac_is_that_of_the_standard);
    RUN(a_message_with_any_bit_of_what_mac1_covers_or_of_mac1_bent_is_stopped);
    RUN(a_mac1_under_another_key_is_stopped_and_costs_no_token);
    RUN(without_a_key_only_cookie_replies_pass);
    RUN(a_source_may_send_a_burst_and_then_its_rate);
    RUN(cookie_replies_need_no_mac1_and_use_up_tokens);
    RUN(what_one_host_has_is_one_source);
    RUN(one_loud_source_holds_up_no_others);
    RUN(all_sources_together_have_a_limit);
    RUN(neighbouring_addresses_do_not_fall_into_one_bucket);
    return EXIT_SUCCESS;
}
