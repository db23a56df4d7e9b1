/* Handshake messages on the link-reader's UDP sockets, where anyone may send them: those that may
 * be answered go up, the senders of too many are asked for a cookie, and data passes meanwhile. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>

#include "packet/byteorder.h"
#include "check.h"
#include "datagram_link.h"
#include "handshakes.h"
#include "inbound/link_reader.h"

/* -- handshake messages ------------------------------------------------------------------------ */

static void handshake_messages_go_up_with_their_sender_and_move_no_endpoint(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    loop_await_reply(reader.loop, SLOT, 0x02020202); /* the indices of the third and the last */
    loop_await_reply(reader.loop, OTHER_SLOT, 0x05050505);
    for (unsigned i = 0; i < 6; i++) {
        size_t length = handshake_make(message, 1 + i % 3, (uint8_t)i, mac1_key);
        datagram_send(i % 2, message, length);
        datagram_send_good(0, i);
    }
    datagrams_run();
    size_t n = 0;
    for (size_t i = 0; i < reader.n_events; i++) {
        const struct loop_event *event = &reader.events[i];
        if (event->kind != EVENT_UDP_HANDSHAKE)
            continue;
        size_t length = handshake_make(message, 1 + (unsigned)n % 3, (uint8_t)n, mac1_key);
        CHECK_EQUAL(event->length, length);
        CHECK_EQUAL(memcmp(event->bytes, message, length), 0);
        CHECK(udp_address_equal(&event->endpoint, &sender_endpoints[n % 2]));
        n++;
    }
    CHECK_EQUAL(n, 6);
    check_counted(6, NO_DROP, 0);
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

static void a_handshake_message_without_our_mac1_is_dropped(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    for (unsigned type = 1; type <= 2; type++)
        datagram_send(0, message, handshake_make(message, type, 0, (uint8_t[AEAD_KEY_SIZE]){1}));
    datagrams_run();
    check_counted(0, DROP_link_reader_bad_mac1, 2);
    CHECK_EQUAL(reader.n_events, 0);
    datagrams_close();
}

/* -- cookie replies ---------------------------------------------------------------------------- */

static void send_reply(unsigned sender, uint32_t index) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    size_t length = handshake_make(message, MESSAGE_COOKIE, 9, mac1_key);
    le32_write(message + 4, index);
    datagram_send(sender, message, length);
}

/* Anyone can send them, in any peer's name: so only one that reads along can use up a limit. */
static void cookie_replies_that_no_peer_waits_for_keep_no_other_out(void) {
    enum { N_ROUNDS = 10, N_A_ROUND = 100, AWAITED = 0x1234567 };
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    loop_await_reply(reader.loop, OTHER_SLOT, AWAITED);
    for (uint32_t round = 0; round < N_ROUNDS; round++) {
        for (uint32_t i = 0; i < N_A_ROUND; i++)
            send_reply(0, i == 0 ? 0 : AWAITED + 1 + i); /* 0 is what no peer waits for */
        datagrams_run();
    }
    check_counted(0, DROP_link_reader_cookie_unasked, N_ROUNDS * N_A_ROUND);
    CHECK_EQUAL(reader.n_events, 0);
    send_reply(0, AWAITED);
    datagrams_run();
    CHECK_EQUAL(count_events(EVENT_UDP_HANDSHAKE), 1);
    loop_await_reply(reader.loop, OTHER_SLOT, AWAITED + 1);
    send_reply(0, AWAITED); /* of an attempt before */
    datagrams_run();
    CHECK_EQUAL(count_events(EVENT_UDP_HANDSHAKE), 1);
    datagrams_close();
}

static void a_cookie_reply_may_name_a_response_until_its_key_is_confirmed(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    send_reply(0, INDEX);
    datagrams_run();
    CHECK_EQUAL(count_events(EVENT_UDP_HANDSHAKE), 1);
    datagram_send_good(0, 0);
    send_reply(0, INDEX);
    datagrams_run();
    CHECK_EQUAL(count_events(EVENT_UDP_HANDSHAKE), 1);
    check_counted(1, DROP_link_reader_cookie_unasked, 1);
    datagrams_close();
}

static void one_that_reads_along_can_use_up_one_peers_replies_only(void) {
    enum { N_SENT = 100, ONE = 0x1234567, OTHER = 0x2345678 };
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    loop_await_reply(reader.loop, SLOT, ONE);
    loop_await_reply(reader.loop, OTHER_SLOT, OTHER);
    for (int i = 0; i < N_SENT; i++)
        send_reply(0, ONE);
    send_reply(0, OTHER);
    datagrams_run();
    size_t n_passed = count_events(EVENT_UDP_HANDSHAKE);
    CHECK(n_passed >= REPLIES_BURST + 1 && n_passed <= REPLIES_BURST + 5);
    CHECK_EQUAL(memcmp(reader.events[reader.n_events - 1].bytes + 4, (uint32_t[]){OTHER}, 4), 0);
    datagrams_close();
}

/* -- cookies ----------------------------------------------------------------------------------- */

/* Which of them are asked for one, test_handshake_gate.c says. */
static void the_sender_of_too_many_handshake_messages_is_sent_cookies_and_data_passes(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX], heard[HEARD_MAX];
    enum { N_SENT = 200 };
    size_t length = handshake_make(message, 1, 7, mac1_key), n_heard = 0, heard_length;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    for (unsigned i = 0; i < N_SENT; i++)
        datagram_send(0, message, length);
    datagram_send_good(0, 0);
    datagrams_run();
    size_t n_passed = count_events(EVENT_UDP_HANDSHAKE);
    CHECK(n_passed >= HANDSHAKES_BURST && n_passed < HANDSHAKES_BURST + 20); /* some ms went by */
    check_counted(1, DROP_link_reader_cookie_sent, N_SENT - n_passed);
    for (; datagram_hear(0, heard, &heard_length); n_heard++) {
        CHECK_EQUAL(heard_length, COOKIE_REPLY_LENGTH);
        CHECK_EQUAL(le32_read(heard), MESSAGE_COOKIE);
        CHECK_EQUAL(memcmp(heard + 4, message + 4, 4), 0); /* the sender's index */
    }
    CHECK_EQUAL(n_heard, N_SENT - n_passed);
    CHECK(!datagram_hear(1, heard, &heard_length));
    for (int call = CALL_sendmsg; call <= CALL_getrandom; call++)
        CHECK_EQUAL(stats_read_call(reader.lane.stats, ROLE_link_reader, (unsigned)call), n_heard);
    datagrams_close();
}

static void a_sender_that_shows_its_cookie_passes_until_it_shows_too_many(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX], cookie[COOKIE_LENGTH], heard[HEARD_MAX];
    enum { N_SENT = 200 };
    size_t heard_length;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    struct cookie_maker *maker = &link_reader_of(reader.loop)->handshakes.gate.cookies;
    CHECK_EQUAL(cookie_make(maker, &sender_endpoints[0], clock_now_ns(), cookie), 0);
    size_t length = handshake_make(message, 1, 7, mac1_key);
    handshake_show(message, length, cookie);
    for (unsigned i = 0; i < N_SENT; i++)
        datagram_send(0, message, length);
    datagrams_run();
    size_t n_passed = count_events(EVENT_UDP_HANDSHAKE);
    CHECK(n_passed >= HANDSHAKES_BURST && n_passed < HANDSHAKES_BURST + 20);
    check_counted(0, DROP_link_reader_handshake_flood, N_SENT - n_passed);
    CHECK(!datagram_hear(0, heard, &heard_length));
    datagrams_close();
}

static void a_cookie_that_cannot_be_sent_is_counted(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    size_t length = handshake_make(message, 1, 7, mac1_key);
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    link_reader_of(reader.loop)->handshakes.gate.loaded_until_ns = UINT64_MAX;
    for (unsigned i = 0; i < 3; i++)
        datagram_send(0, message, length);
    link_reader_of(reader.loop)->sockets[DATAGRAM_SOCKET].family =
        AF_INET6; /* it does not take such addresses */
    datagrams_run();
    check_counted(0, DROP_link_reader_cookie_not_sent, 3);
    CHECK_EQUAL(count_events(EVENT_UDP_HANDSHAKE), 0);
    datagrams_close();
}

int main(void) {
    RUN(handshake_messages_go_up_with_their_sender_and_move_no_endpoint);
    RUN(a_handshake_message_without_our_mac1_is_dropped);
    RUN(cookie_replies_that_no_peer_waits_for_keep_no_other_out);
    RUN(a_cookie_reply_may_name_a_response_until_its_key_is_confirmed);
    RUN(one_that_reads_along_can_use_up_one_peers_replies_only);
    RUN(the_sender_of_too_many_handshake_messages_is_sent_cookies_and_data_passes);
    RUN(a_sender_that_shows_its_cookie_passes_until_it_shows_too_many);
    RUN(a_cookie_that_cannot_be_sent_is_counted);
    return EXIT_SUCCESS;
}
