/* Cookies: a sender that was sent one shows it by mac2, from where it was sent to, while its secret
 * is. What a peer makes of a reply, tests/unit/link/datagram/test_link_reader_cookies.py says. */
#define _GNU_SOURCE
#include "packet/byteorder.h"
#include "check.h"
#include "inbound/cookie.h"
#include "handshakes.h"
#include "session/session.h"

#define S ((uint64_t)1000000000)
static const uint64_t now = 1000 * S;
static const uint8_t mac1_key[MAC_KEY_MAX] = {7, 1}, reply_key[AEAD_KEY_SIZE] = {7, 3};
static const struct udp_address home = {
    .family = UDP_ADDRESS_IPV4, .port = 51820, .address = {192, 0, 2, 1}};
static struct cookie_maker maker;
static uint8_t message[HANDSHAKE_BYTES_MAX];

static void begin(void) {
    CHECK_EQUAL(cookie_maker_init(&maker, reply_key), 0);
}

static void end(void) {
    cookie_maker_free(&maker);
}

/* The message shows the cookie that was made for the source. */
static size_t make_shown(unsigned type, const struct udp_address *source, uint64_t at_ns) {
    uint8_t cookie[COOKIE_LENGTH];
    size_t length = handshake_make(message, type, 0x33, mac1_key);
    CHECK_EQUAL(cookie_make(&maker, source, at_ns, cookie), 0);
    handshake_show(message, length, cookie);
    return length;
}

static bool is_shown(size_t length, struct udp_address source, uint64_t at_ns) {
    return mac2_is_valid(&maker, message, length, &source, at_ns);
}

/* -- mac2 -------------------------------------------------------------------------------------- */

static void a_message_with_any_bit_of_what_mac2_covers_or_of_mac2_bent_shows_nothing(void) {
    begin();
    for (unsigned type = MESSAGE_INITIATION; type <= MESSAGE_RESPONSE; type++) {
        size_t length = make_shown(type, &home, now);
        for (size_t bit = 0; bit < 8 * length; bit++) {
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK(!is_shown(length, home, now));
            message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        CHECK(is_shown(length, home, now));
    }
    end();
}

static void without_a_cookie_nothing_is_shown(void) {
    begin();
    size_t length = handshake_make(message, MESSAGE_INITIATION, 0x33, mac1_key);
    memset(message + length - MAC_LENGTH, 0, MAC_LENGTH); /* as a sender without one does */
    CHECK(!is_shown(length, home, now));
    handshake_show(message, length, (uint8_t[COOKIE_LENGTH]){0});
    CHECK(!is_shown(length, home, now));
    end();
}

/* -- whose it is ------------------------------------------------------------------------------- */

static void a_cookie_is_good_only_where_it_was_sent_to(void) {
    begin();
    size_t length = make_shown(MESSAGE_INITIATION, &home, now);
    for (unsigned port_bit = 0; port_bit < 16; port_bit++) {
        struct udp_address elsewhere = home;
        elsewhere.port ^= (uint16_t)(1 << port_bit);
        CHECK(!is_shown(length, elsewhere, now));
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        struct udp_address elsewhere = home;
        elsewhere.address[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!is_shown(length, elsewhere, now));
    }
    struct udp_address ipv6 = home;
    ipv6.family = UDP_ADDRESS_IPV6;
    CHECK(!is_shown(length, ipv6, now));
    length = make_shown(MESSAGE_INITIATION, &ipv6, now);
    CHECK(is_shown(length, ipv6, now));
    for (unsigned byte = 0; byte < 16; byte++) {
        struct udp_address elsewhere = ipv6;
        elsewhere.address[byte] ^= 1;
        CHECK(!is_shown(length, elsewhere, now));
    }
    end();
}

static void which_of_our_addresses_and_sockets_it_came_to_does_not_matter(void) {
    begin();
    struct udp_address same = home;
    same.socket_index = 3;
    same.local_zone = 5;
    same.local[0] = 10;
    CHECK(is_shown(make_shown(MESSAGE_INITIATION, &home, now), same, now));
    end();
}

static void a_cookie_of_another_maker_is_none(void) {
    begin();
    size_t length = make_shown(MESSAGE_INITIATION, &home, now);
    end();
    begin();
    CHECK(!is_shown(length, home, now));
    end();
}

/* -- the secret -------------------------------------------------------------------------------- */

static void the_secret_changes_after_120_s_and_not_before(void) {
    uint8_t seen[4][COOKIE_LENGTH];
    begin();
    for (unsigned i = 0; i < 4; i++) {
        uint64_t made_ns = now + i * 120 * S;
        CHECK_EQUAL(cookie_make(&maker, &home, made_ns, seen[i]), 0);
        size_t length = make_shown(MESSAGE_INITIATION, &home, made_ns);
        CHECK(is_shown(length, home, made_ns + 120 * S - 1));
        for (unsigned before = 0; before < i; before++)
            CHECK(memcmp(seen[before], seen[i], COOKIE_LENGTH) != 0);
    }
    CHECK(!is_shown(make_shown(MESSAGE_INITIATION, &home, now), home, now + 480 * S));
    end();
}

/* Before the first cookie there is a key of zeros: nothing may be shown by it. */
static void the_first_secret_is_random(void) {
    uint8_t expected[COOKIE_LENGTH], bound[] = {192, 0, 2, 1, 51820 >> 8, 51820 & 0xff};
    begin();
    handshake_mac(expected, (uint8_t[MAC_KEY_MAX]){0}, MAC_KEY_MAX, bound, sizeof bound);
    size_t length = handshake_make(message, MESSAGE_INITIATION, 0x33, mac1_key);
    handshake_show(message, length, expected);
    CHECK(!is_shown(length, home, 0));
    CHECK(!is_shown(length, home, now));
    end();
}

/* -- replies ----------------------------------------------------------------------------------- */

static void a_reply_is_the_cookie_sealed_for_the_sender_of_the_message(void) {
    uint8_t cookie[COOKIE_LENGTH + AEAD_TAG_SIZE], reply[COOKIE_REPLY_LENGTH], again[sizeof reply];
    struct xchacha_key *key = xchacha_key_new(reply_key);
    begin();
    for (unsigned type = MESSAGE_INITIATION; type <= MESSAGE_RESPONSE; type++) {
        size_t length = handshake_make(message, type, 0x33, mac1_key);
        le32_write(message + 4, 0x50515253 + type); /* the sender's index */
        CHECK_EQUAL(cookie_reply(&maker, message, length, &home, now, reply), 0);
        CHECK_EQUAL(le32_read(reply), MESSAGE_COOKIE);
        CHECK_EQUAL(le32_read(reply + 4), le32_read(message + 4));
        CHECK_EQUAL(cookie_make(&maker, &home, now, cookie), 0);
        const uint8_t *mac1 = message + length - MACS_LENGTH;
        CHECK_EQUAL(xchacha_seal(key, reply + 8, mac1, MAC_LENGTH, cookie, COOKIE_LENGTH), 0);
        CHECK_EQUAL(memcmp(reply + 8 + XCHACHA_NONCE, cookie, sizeof cookie), 0);
        CHECK_EQUAL(cookie_reply(&maker, message, length, &home, now, again), 0);
        CHECK(memcmp(reply + 8, again + 8, XCHACHA_NONCE) != 0);
    }
    end();
    xchacha_key_free(key);
}

static void a_maker_that_was_not_made_can_be_freed(void) {
    struct cookie_maker none = {0};
    cookie_maker_free(&none);
    begin();
    end();
    end();
}

int main(void) {
    RUN(a_message_with_any_bit_of_what_mac2_covers_or_of_mac2_bent_shows_nothing);
    RUN(without_a_cookie_nothing_is_shown);
    RUN(a_cookie_is_good_only_where_it_was_sent_to);
    RUN(which_of_our_addresses_and_sockets_it_came_to_does_not_matter);
    RUN(a_cookie_of_another_maker_is_none);
    RUN(the_secret_changes_after_120_s_and_not_before);
    RUN(the_first_secret_is_random);
    RUN(a_reply_is_the_cookie_sealed_for_the_sender_of_the_message);
    RUN(a_maker_that_was_not_made_can_be_freed);
    return EXIT_SUCCESS;
}
