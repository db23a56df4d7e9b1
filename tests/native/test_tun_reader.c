/* The tun-reader on the sealed wire: which peer a packet goes to, under which key and counter, and
 * what becomes of it when there is none.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>

#include "outbound/tun_reader.h"
#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "frames.h"
#include "sender.h"

static struct frame frame;

/* -- the peer ---------------------------------------------------------------------------------- */

static void a_packet_goes_to_the_peer_with_the_longest_prefix(void) {
    const uint8_t ten[4] = {10}, net[4] = {10, 1}, host[4] = {10, 1, 2, 3}, ula[16] = {0xfd};
    const struct {
        uint32_t destination;
        unsigned slot;
    } cases[] = {{0x0a020304, 1}, {0x0a010304, 1023}, {0x0a010203, 0}, {0x0a010204, 1023}};
    uint8_t packet[PACKET];
    sender_open(MODE_TUN);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot += slot == 2 ? 1021 : 1) {
        sender_attach(slot, sealed_format(MODE_TUN, true));
        set_key(slot, AEAD_CHACHA20_POLY1305, 0);
    }
    sender_allow(1, ten, 4, 8);
    sender_allow(1023, net, 4, 16);
    sender_allow(0, host, 4, 32);
    sender_allow(2, ula, 16, 8);
    for (size_t i = 0; i < 4; i++)
        give_packet(cases[i].destination);
    ipv6_make(packet, PACKET, US, 5);
    give(packet, PACKET);
    sender_run();
    for (size_t i = 0; i < 4; i++) {
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.record->slot, cases[i].slot);
        CHECK_EQUAL(be16_read(opened.content + 18), cases[i].destination & 0xffff);
    }
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.record->slot, 2);
    CHECK(!open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(sender_counter(COUNTER_packets), 5);
    sender_close();
}

static void a_packet_for_no_peer_is_counted_and_answered(void) {
    uint8_t answer[2000];
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    sender_allow_ten(1);
    give_packet(0x0b000001);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK(read(sender.device[1], answer, sizeof answer) > VNET_LENGTH + IPV4_HEADER_SIZE);
    CHECK_EQUAL(answer[VNET_LENGTH + 9], 1); /* ICMP */
    CHECK_EQUAL(read(sender.device[1], answer, sizeof answer), -1);
    sender_close();
}

static void give_super_packet(void) {
    struct random random = {3};
    frame_make(&frame, &random, MODE_TUN, FRAME_TCP4_SUPER, 8000);
    ipv4_make(frame.bytes + VNET_LENGTH, IPV4_HEADER_SIZE, US, 0x0a000002);
    be16_write(frame.bytes + VNET_LENGTH + 2, 8000);
    frame.bytes[VNET_LENGTH + 9] = 6; /* TCP */
    CHECK(frame.n_packets > 2);
    give_frame(frame.bytes, frame.length);
}

static void without_link_or_key_each_packet_is_counted_on_the_peers_name(void) {
    sender_open(MODE_TUN);
    sender_allow_ten(5);
    give_packet(0x0a000002); /* no link */
    sender_run();
    sender_attach(5, sealed_format(MODE_TUN, true));
    give_super_packet(); /* no key */
    sender_run();
    set_key(5, AEAD_CHACHA20_POLY1305, 0);
    loop_forget_sending_key(sender.worker.loop, 5);
    give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 2 + frame.n_packets);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 2 + frame.n_packets);
    CHECK_EQUAL(sender_field(5, "no_session_packets"), 2 + frame.n_packets);
    CHECK_EQUAL(sender_field(5, "sent_ns"), 0);
    sender_close();
}

/* -- keys -------------------------------------------------------------------------------------- */

static void counters_go_up_by_one_and_a_key_that_is_used_up_seals_no_more(void) {
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_key(1, AEAD_AES_256_GCM, REJECT_AFTER_MESSAGES - 3);
    for (int i = 0; i < 5; i++)
        give_packet(0x0a000002);
    sender_run();
    for (uint64_t left = 3; left > 0; left--) {
        CHECK(open_next(AEAD_AES_256_GCM));
        CHECK_EQUAL(opened.counter, REJECT_AFTER_MESSAGES - left);
    }
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 2);
    CHECK_EQUAL(sender_field(1, "sealed"), REJECT_AFTER_MESSAGES);
    CHECK(loop_send_keepalive(sender.worker.loop, 1) < 0);
    sender_close();
}

static void give_and_run(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        give_packet(0x0a000002);
    sender_run();
}

/* PACKET bytes are padded to 7 blocks; two more go into the tag. */
static void blocks_under_aes_are_counted_and_those_under_chacha_are_not(void) {
    enum { BLOCKS_A_PACKET = 7 + 2 };
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_session(1, AEAD_CHACHA20_POLY1305, 1, 0, UINT64_MAX);
    give_and_run(3);
    CHECK_EQUAL(sender_field(1, "sealed_blocks"), 0);
    set_session(1, AEAD_AES_256_GCM, 1, 0, UINT64_MAX);
    give_and_run(3);
    CHECK_EQUAL(sender_field(1, "sealed_blocks"), 3 * BLOCKS_A_PACKET);
    set_session(1, AEAD_AES_256_GCM, 1, 0, UINT64_MAX); /* the same key once more */
    give_and_run(1);
    CHECK_EQUAL(sender_field(1, "sealed_blocks"), 4 * BLOCKS_A_PACKET);
    set_session(1, AEAD_AES_256_GCM, 2, 0, UINT64_MAX);
    CHECK_EQUAL(sender_field(1, "sealed_blocks"), 0); /* the gateway hears nothing of the last */
    give_and_run(1);
    CHECK_EQUAL(sender_field(1, "sealed_blocks"), BLOCKS_A_PACKET);
    sender_close();
}

/* Of 2^34 blocks; whatever the next message's length, it still fits. */
static void under_aes_no_more_than_its_blocks_are_sealed(void) {
    const uint64_t longest = (MESSAGE_MAX + AES_BLOCK - 1) / AES_BLOCK + 2;
    CHECK_EQUAL(AES_BLOCKS_MAX, 17179869184u);
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_key(1, AEAD_AES_256_GCM, 0);
    tun_reader_of(sender.worker.loop)->links[1]->sending->counter->n_blocks =
        AES_BLOCKS_MAX - longest;
    give_and_run(3);
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 2);
    CHECK(loop_send_keepalive(sender.worker.loop, 1) < 0);
    CHECK(sender_field(1, "sealed_blocks") <= AES_BLOCKS_MAX);
    set_session(1, AEAD_AES_256_GCM, 1, 0, UINT64_MAX); /* a new key has all of them */
    give_and_run(1);
    CHECK(open_next(AEAD_AES_256_GCM));
    sender_close();
}

static void a_new_key_takes_over_with_its_own_counter(void) {
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_key(1, AEAD_CHACHA20_POLY1305, 20);
    give_packet(0x0a000002);
    sender_run();
    set_session(1, AEAD_AES_256_GCM, 1, 7, UINT64_MAX);
    give_packet(0x0a000002);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.counter, 20);
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.counter, 7);
    CHECK_EQUAL(sender_field(1, "sealed"), 8);
    sender_attach(1, sealed_format(MODE_TUN, true)); /* a new link has no key yet */
    give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    sender_close();
}

/* Counters are the session's: the other side has one window for both ciphers. */
static void another_cipher_of_a_session_goes_on_counting(void) {
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_session(1, AEAD_CHACHA20_POLY1305, 1, 5, UINT64_MAX);
    give_packet(0x0a000002);
    sender_run();
    set_session(1, AEAD_AES_256_GCM, 1, 0, UINT64_MAX);
    give_packet(0x0a000002);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.counter, 5);
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.counter, 6);
    CHECK_EQUAL(sender_field(1, "sealed"), 7);
    sender_close();
}

static void a_key_that_is_too_old_seals_nothing(void) {
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_session(1, AEAD_CHACHA20_POLY1305, 1, 0, clock_boottime_ns() + 100000000);
    give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, 1), 0);
    usleep(100 * 1000);
    give_packet(0x0a000002);
    sender_run();
    CHECK(loop_send_keepalive(sender.worker.loop, 1) < 0);
    CHECK_EQUAL(sender_field(1, "sealed"), 2);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(sender.n_events, 1);
    CHECK_EQUAL(sender.events[0].kind, EVENT_NO_SESSION);
    sender_close();
}

/* -- content ----------------------------------------------------------------------------------- */

static void a_bare_packet_is_padded_with_zeros_to_16_bytes_and_nothing_else_is(void) {
    uint8_t packet[160];
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    for (size_t length = IPV4_HEADER_SIZE; length < 120; length++) {
        ipv4_make(packet, length, US, 0x0a000002);
        memset(packet + IPV4_HEADER_SIZE, 0xee, length - IPV4_HEADER_SIZE);
        give(packet, length);
        sender_run();
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.length, (length + 15) / 16 * 16);
        CHECK_EQUAL(memcmp(opened.content, packet, length), 0);
        for (int i = (int)length; i < opened.length; i++)
            CHECK_EQUAL(opened.content[i], 0);
        CHECK_EQUAL(opened.record->n_bytes, length);
        sender_release();
    }
    give_super_packet();
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.content[0], MESSAGE_SUPER);
    CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + frame.length);
    sender_close();
}

/* Whatever the peer says that it takes, the prefix has 16 bits. */
static void no_frame_is_so_long_that_its_message_overflows_the_prefix(void) {
    struct link_format greedy = sealed_format(MODE_TUN, true);
    static uint8_t packet[MESSAGE_MAX];
    int size = 1 << 20;
    greedy.message_max = SIZE_MAX;
    sender_open(MODE_TUN);
    CHECK_EQUAL(setsockopt(sender.device[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    sender_attach(1, greedy);
    sender_allow_ten(1);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    size_t n = 0, n_sent = 0;
    for (size_t length = MESSAGE_MAX - 64; length <= MESSAGE_MAX; length++, n++) {
        ipv4_make(packet, length, US, 0x0a000002);
        give(packet, length);
        sender_run();
        n_sent += open_next(AEAD_CHACHA20_POLY1305);
        sender_release();
    }
    CHECK(n_sent >= 17); /* up to SEALED_CONTENT_MAX in any case */
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_message_max), n - n_sent);
    sender_close();
}

static void a_tap_frame_goes_to_the_one_peer_and_is_not_padded(void) {
    uint8_t ethernet[61] = {0xff};
    sender_open(MODE_TAP);
    give(ethernet, sizeof ethernet);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    sender_attach(0, sealed_format(MODE_TAP, true));
    set_key(0, AEAD_AES_256_GCM, 0);
    give(ethernet, sizeof ethernet);
    give(ethernet, ETHERNET_HEADER_SIZE - 1);
    sender_run();
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + sizeof ethernet);
    CHECK_EQUAL(memcmp(opened.content + MESSAGE_TYPE_LENGTH, ethernet, sizeof ethernet), 0);
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_not_ip), 1);
    sender_close();
}

static void a_tap_frame_goes_to_the_peer_whose_link_came_last(void) {
    const unsigned slots[] = {7, 3, 1023};
    sender_open(MODE_TAP);
    for (size_t i = 0; i < 3; i++) {
        sender_attach(slots[i], sealed_format(MODE_TAP, false));
        set_key(slots[i], AEAD_CHACHA20_POLY1305, 0);
        give_packet(0x0a000002);
        sender_run();
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.record->slot, slots[i]);
        loop_detach_link(sender.worker.loop, slots[i]);
        give_packet(0x0a000002);
        sender_run();
        CHECK_EQUAL(sender_field(slots[i], "no_session_packets"), 1);
    }
    CHECK(!open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 3);
    sender_close();
}

int main(void) {
    RUN(a_packet_goes_to_the_peer_with_the_longest_prefix);
    RUN(a_packet_for_no_peer_is_counted_and_answered);
    RUN(counters_go_up_by_one_and_a_key_that_is_used_up_seals_no_more);
    RUN(blocks_under_aes_are_counted_and_those_under_chacha_are_not);
    RUN(under_aes_no_more_than_its_blocks_are_sealed);
    RUN(a_new_key_takes_over_with_its_own_counter);
    RUN(another_cipher_of_a_session_goes_on_counting);
    RUN(a_key_that_is_too_old_seals_nothing);
    RUN(a_bare_packet_is_padded_with_zeros_to_16_bytes_and_nothing_else_is);
    RUN(a_tap_frame_goes_to_the_one_peer_and_is_not_padded);
    RUN(a_tap_frame_goes_to_the_peer_whose_link_came_last);
    RUN(without_link_or_key_each_packet_is_counted_on_the_peers_name);
    RUN(no_frame_is_so_long_that_its_message_overflows_the_prefix);
    return EXIT_SUCCESS;
}
