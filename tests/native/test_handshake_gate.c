/* Which handshake messages pass the gate; the clock is the test's. */
#define _GNU_SOURCE
#include "check.h"
#include "inbound/handshake_gate.h"
#include "handshakes.h"
#include "random.h"
#include "session/session.h"

#define S ((uint64_t)1000000000)

static const uint8_t key[MAC_KEY_MAX] = {7, 1}, other_key[MAC_KEY_MAX] = {7, 2};
static const uint8_t cookie_key[AEAD_KEY_SIZE] = {7, 3};
static struct handshake_gate gate;
static uint8_t message[HANDSHAKE_BYTES_MAX];

static struct udp_address ipv4_source(uint32_t address, uint16_t port) {
    struct udp_address source = {.family = UDP_ADDRESS_IPV4, .port = port};
    memcpy(source.address, &address, sizeof address);
    return source;
}

static struct udp_address ipv6_source(uint64_t network, uint64_t host) {
    struct udp_address source = {.family = UDP_ADDRESS_IPV6, .port = 9};
    memcpy(source.address, &network, sizeof network);
    memcpy(source.address + 8, &host, sizeof host);
    return source;
}

static enum gate_verdict judge(size_t length, struct udp_address source, uint64_t now_ns) {
    return handshake_gate_judge(&gate, message, length, &source, now_ns);
}

/* An initiation with a right mac1, which shows the source's cookie or none. */
static enum gate_verdict send_one(bool is_proven, struct udp_address source, uint64_t now_ns) {
    size_t length = handshake_make(message, MESSAGE_INITIATION, 0, key);
    uint8_t cookie[COOKIE_LENGTH];
    if (is_proven) {
        CHECK_EQUAL(cookie_make(&gate.cookies, &source, now_ns, cookie), 0);
        handshake_show(message, length, cookie);
    }
    return judge(length, source, now_ns);
}

/* Of `n` unproven ones those that pass; the others are asked for a cookie. */
static size_t count_open(size_t n, struct udp_address source, uint64_t now_ns) {
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        enum gate_verdict verdict = send_one(false, source, now_ns);
        CHECK(verdict == GATE_OPEN || verdict == GATE_ASK_COOKIE);
        n_open += verdict == GATE_OPEN;
    }
    return n_open;
}

/* Of `n` proven ones those that pass; the others are dropped. */
static size_t count_proven(size_t n, struct udp_address source, uint64_t now_ns) {
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        enum gate_verdict verdict = send_one(true, source, now_ns);
        CHECK(verdict == GATE_OPEN || verdict == GATE_TOO_MANY);
        n_open += verdict == GATE_OPEN;
    }
    return n_open;
}

static size_t count_replies(size_t n, struct udp_address source, uint64_t now_ns) {
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        enum gate_verdict verdict =
            judge(handshake_make(message, MESSAGE_COOKIE, 9, key), source, now_ns);
        CHECK(verdict == GATE_OPEN || verdict == GATE_TOO_MANY);
        n_open += verdict == GATE_OPEN;
    }
    return n_open;
}

/* As many sources as there are messages. */
static size_t count_from_many(size_t n, uint64_t now_ns) {
    static uint32_t address;
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++)
        n_open += count_open(1, ipv4_source(++address * 2654435761u, 1), now_ns);
    return n_open;
}

/* -- mac1 -------------------------------------------------------------------------------------- */

/* From Python's hashlib.blake2s(bytes(range(116)), key=bytes(...), digest_size=16). */
static void a_mac_is_that_of_the_standard(void) {
    const uint8_t expected[MAC_LENGTH] = {0x30, 0x97, 0xe7, 0x59, 0xb2, 0x0f, 0x6d, 0x8c,
                                          0x3f, 0x02, 0x57, 0x21, 0x96, 0x60, 0x54, 0xbd};
    uint8_t text[116], known_key[MAC_KEY_MAX], mac[MAC_LENGTH];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof known_key; i++)
        known_key[i] = (uint8_t)(3 * 17 + i);
    struct mac_key *mac_key = mac_key_new(known_key);
    CHECK(mac_is_valid(mac_key, text, sizeof text, expected));
    CHECK(mac_is_valid(mac_key, text, sizeof text, expected)); /* one use does not spoil the next */
    CHECK(!mac_is_valid(mac_key, text, sizeof text - 1, expected));
    for (size_t bit = 0; bit < 8 * MAC_LENGTH; bit++) {
        memcpy(mac, expected, sizeof mac);
        mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!mac_is_valid(mac_key, text, sizeof text, mac));
    }
    mac_key_free(mac_key);
    handshake_mac(mac, known_key, MAC_KEY_MAX, text,
                  sizeof text); /* and so the other claims can rely on it */
    CHECK_EQUAL(memcmp(mac, expected, sizeof mac), 0);
}

static void a_message_with_any_bit_of_what_mac1_covers_or_of_mac1_bent_is_stopped(void) {
    for (unsigned type = MESSAGE_INITIATION; type <= MESSAGE_RESPONSE; type++) {
        CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
        size_t length = handshake_make(message, type, 0x33, key);
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_OPEN);
        for (size_t bit = 32; bit < 8 * (length - MAC_LENGTH); bit++) {
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_BAD_MAC1);
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        message[length - 1] ^= 1; /* an arbitrary mac2 is as good as none */
        CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_OPEN);
        handshake_gate_free(&gate);
    }
}

static void a_mac1_under_another_key_is_stopped_and_costs_no_token(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
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

/* -- one source -------------------------------------------------------------------------------- */

typedef size_t count(size_t n, struct udp_address source, uint64_t now_ns);

static void a_source_may_send_a_burst_and_then_its_rate(void) {
    static count *const counts[] = {count_open, count_proven, count_replies};
    const struct udp_address source = ipv4_source(0x0100007f, 1);
    const uint64_t interval_ns = S / HANDSHAKES_PER_SECOND;
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
        uint64_t now_ns = 5 * S;
        CHECK_EQUAL(counts[i](1000, source, now_ns), HANDSHAKES_BURST);
        CHECK_EQUAL(counts[i](10, source, now_ns + interval_ns - 1), 0);
        CHECK_EQUAL(counts[i](10, source, now_ns += interval_ns), 1);
        CHECK_EQUAL(counts[i](1000, source, now_ns += 7 * interval_ns), 7);
        CHECK_EQUAL(counts[i](1000, source, now_ns + 3600 * S), HANDSHAKES_BURST);
        handshake_gate_free(&gate);
    }
}

static void what_one_host_has_is_one_source(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    size_t n_open = 0;
    for (uint16_t port = 0; port < 1000; port++)
        n_open += count_open(1, ipv4_source(77, port), S);
    CHECK_EQUAL(n_open, HANDSHAKES_BURST);
    for (uint64_t host = 0; host < 1000; host++)
        n_open += count_open(1, ipv6_source(0xfd77, host), S);
    CHECK_EQUAL(n_open, 2 * HANDSHAKES_BURST);
    for (uint32_t host = 0; host < 1000; host++)
        n_open += count_open(1, ipv4_source(127 | host << 8, 1), S);
    CHECK_EQUAL(n_open, 3 * HANDSHAKES_BURST);
    handshake_gate_free(&gate);
}

/* Anyone can send in the name of another: so that may cost it a round trip, and nothing more. */
static void what_is_sent_in_a_sources_name_does_not_stop_what_it_proves(void) {
    const struct udp_address source = ipv4_source(1, 1);
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    count_open(10000, source, S);
    count_replies(10000, source, S);
    CHECK_EQUAL(count_proven(1000, source, S), HANDSHAKES_BURST);
    CHECK_EQUAL(send_one(false, source, S), GATE_ASK_COOKIE);
    handshake_gate_free(&gate);
}

/* Sources share buckets by chance: of 400 others, one loud source holds up none or one. */
static void one_loud_source_holds_up_no_others(void) {
    struct random random = {13};
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    CHECK_EQUAL(count_open(10000, ipv4_source(1, 1), S), HANDSHAKES_BURST);
    size_t n_open = 0;
    for (unsigned i = 0; i < 400; i++) {
        uint32_t address = (uint32_t)random_next(&random);
        n_open += count_open(1, i % 2 == 0 ? ipv4_source(address, 1) : ipv6_source(address, 1), S);
    }
    CHECK(n_open >= 398);
    handshake_gate_free(&gate);
}

/* How many of `n` sources find their bucket full, each asked as often as a bucket has tokens. */
static size_t count_untouched(size_t n, struct udp_address (*source_of)(uint64_t)) {
    size_t n_untouched = 0;
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    for (uint64_t i = 0; i < n; i++) {
        gate.replies.of_all_ns = 0; /* the limit of all is not the claim here */
        n_untouched += count_replies(HANDSHAKES_BURST, source_of(i), S) == (size_t)HANDSHAKES_BURST;
    }
    handshake_gate_free(&gate);
    return n_untouched;
}

static struct udp_address ipv4_neighbour(uint64_t i) {
    return ipv4_source((uint32_t)i << 24 | 0x0a, 1);
}

static struct udp_address ipv6_neighbour(uint64_t i) {
    return ipv6_source(i << 56 | 0xfd, 1);
}

/* Neighbours, as an attacker with a network of his own would have, spread over the buckets. */
static void neighbouring_addresses_do_not_fall_into_one_bucket(void) {
    CHECK(count_untouched(256, ipv4_neighbour) > 230);
    CHECK(count_untouched(256, ipv6_neighbour) > 230);
}

/* -- all of them ------------------------------------------------------------------------------- */

/* However many sources there are, the gateway is not asked for more than it can work off. */
static void all_proven_sources_together_have_a_limit(void) {
    size_t n_open = 0;
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    for (uint32_t i = 0; i < 20000; i++) /* in one second */
        n_open += count_proven(1, ipv4_source(i, 1), S + i * S / 20000);
    CHECK(n_open >= PROVEN_PER_SECOND_OF_ALL + PROVEN_BURST_OF_ALL - 1);
    CHECK(n_open <= PROVEN_PER_SECOND_OF_ALL + PROVEN_BURST_OF_ALL + 1);
    handshake_gate_free(&gate);
}

static void all_cookie_replies_have_a_limit(void) {
    size_t n_open = 0;
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    for (uint32_t i = 0; i < 20000; i++)
        n_open += count_replies(1, ipv4_source(i, 1), S + i * S / 20000);
    CHECK(n_open >= REPLIES_PER_SECOND_OF_ALL + REPLIES_BURST_OF_ALL - 1);
    CHECK(n_open <= REPLIES_PER_SECOND_OF_ALL + REPLIES_BURST_OF_ALL + 1);
    handshake_gate_free(&gate);
}

static void without_load_no_cookie_is_asked_for(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    CHECK_EQUAL(count_from_many(UNPROVEN_BURST_OF_ALL, S), UNPROVEN_BURST_OF_ALL);
    for (unsigned i = 1; i <= 10 * UNPROVEN_PER_SECOND_OF_ALL; i++)
        CHECK_EQUAL(count_from_many(1, S + i * S / UNPROVEN_PER_SECOND_OF_ALL), 1);
    handshake_gate_free(&gate);
}

/* More than all may: from then on nothing passes without a cookie, and load lasts as long. */
static void in_a_flood_only_a_sender_that_shows_a_cookie_passes(void) {
    const unsigned n_a_tick = 100, n_ticks_a_second = 100;
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    size_t n_open = 0, n_proven = 0;
    for (unsigned tick = 0; tick < 30 * n_ticks_a_second; tick++) {
        uint64_t now_ns = S + tick * S / n_ticks_a_second;
        n_open += count_from_many(n_a_tick, now_ns);
        if (tick >= 10)
            n_proven += count_proven(1, ipv4_source(tick, 7), now_ns);
    }
    CHECK(n_open >= UNPROVEN_BURST_OF_ALL);
    CHECK(n_open <= UNPROVEN_BURST_OF_ALL + UNPROVEN_PER_SECOND_OF_ALL / 10);
    CHECK_EQUAL(n_proven, 30 * n_ticks_a_second - 10);
    handshake_gate_free(&gate);
}

static void load_is_held_for_a_second_after_it_was_last_seen(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    CHECK_EQUAL(count_from_many(UNPROVEN_BURST_OF_ALL + 1, S), UNPROVEN_BURST_OF_ALL);
    CHECK_EQUAL(count_from_many(1, 2 * S - 1), 0);
    CHECK_EQUAL(count_from_many(1, 2 * S), 1);
    CHECK_EQUAL(count_from_many(UNPROVEN_BURST_OF_ALL + 100, 10 * S), UNPROVEN_BURST_OF_ALL);
    /* In load tokens go to those that are asked, so the bucket is soon empty again: seen anew. */
    uint64_t later_ns = 10 * S + S / 10;
    CHECK_EQUAL(count_from_many(UNPROVEN_PER_SECOND_OF_ALL / 10 + 1, later_ns), 0);
    CHECK_EQUAL(count_from_many(1, later_ns + S - 1), 0);
    CHECK_EQUAL(count_from_many(1, later_ns + S), 1);
    handshake_gate_free(&gate);
}

static void
a_source_above_its_own_limit_takes_nothing_of_the_others_and_does_not_count_as_load(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    count_open(100000, ipv4_source(1, 1), S);
    CHECK_EQUAL(gate.loaded_until_ns, 0);
    size_t n_open = 0;
    for (uint32_t i = 2; i < 2 + UNPROVEN_BURST_OF_ALL - HANDSHAKES_BURST; i++)
        n_open += count_open(1, ipv6_source(i, 0), S);
    CHECK(n_open >= (size_t)UNPROVEN_BURST_OF_ALL - HANDSHAKES_BURST - 2);
    handshake_gate_free(&gate);
}

static void a_response_is_asked_for_a_cookie_as_well(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    count_from_many(UNPROVEN_BURST_OF_ALL + 1, S);
    size_t length = handshake_make(message, MESSAGE_RESPONSE, 1, key);
    CHECK_EQUAL(judge(length, ipv4_source(1, 1), S), GATE_ASK_COOKIE);
    handshake_gate_free(&gate);
}

static void what_has_no_mac1_is_asked_for_nothing_and_does_not_count_as_load(void) {
    CHECK_EQUAL(handshake_gate_init(&gate, key, cookie_key), 0);
    size_t length = handshake_make(message, MESSAGE_INITIATION, 0, other_key);
    for (uint32_t i = 0; i < 2 * UNPROVEN_BURST_OF_ALL; i++)
        CHECK_EQUAL(judge(length, ipv4_source(i, 1), S), GATE_BAD_MAC1);
    CHECK_EQUAL(count_from_many(UNPROVEN_BURST_OF_ALL, S), UNPROVEN_BURST_OF_ALL);
    handshake_gate_free(&gate);
}

int main(void) {
    RUN(a_mac_is_that_of_the_standard);
    RUN(a_message_with_any_bit_of_what_mac1_covers_or_of_mac1_bent_is_stopped);
    RUN(a_mac1_under_another_key_is_stopped_and_costs_no_token);
    RUN(without_a_key_only_cookie_replies_pass);
    RUN(a_source_may_send_a_burst_and_then_its_rate);
    RUN(what_one_host_has_is_one_source);
    RUN(what_is_sent_in_a_sources_name_does_not_stop_what_it_proves);
    RUN(one_loud_source_holds_up_no_others);
    RUN(neighbouring_addresses_do_not_fall_into_one_bucket);
    RUN(all_proven_sources_together_have_a_limit);
    RUN(all_cookie_replies_have_a_limit);
    RUN(without_load_no_cookie_is_asked_for);
    RUN(in_a_flood_only_a_sender_that_shows_a_cookie_passes);
    RUN(load_is_held_for_a_second_after_it_was_last_seen);
    RUN(a_source_above_its_own_limit_takes_nothing_of_the_others_and_does_not_count_as_load);
    RUN(a_response_is_asked_for_a_cookie_as_well);
    RUN(what_has_no_mac1_is_asked_for_nothing_and_does_not_count_as_load);
    return EXIT_SUCCESS;
}
