/* The tun-reader on the sealed wire: which peer a packet goes to, under which key and counter, and
 * what becomes of it when there is none. A SOCK_SEQPACKET pair stands for the device. What the loop
 * puts in the ring is opened here with the far side's key.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "byteorder.h"
#include "check.h"
#include "frames.h"
#include "sealing.h"
#include "worker_thread.h"

enum { RING_BYTES = 1 << 20, PACKET = 100, US = 0x0a000001 };

struct sender {
    int ring_fd, stats_fd, peers_fd, device[2]; /* device: the loop's end, the test's */
    struct ring *consumer;
    struct stats *stats;
    struct stats_block consumer_stats;
    struct peer_table *peers;
    struct worker_thread worker;
};

static struct sender sender;
static struct frame frame;

static void sender_open(enum mode mode) {
    sender = (struct sender){0};
    sender.consumer = ring_create(RING_BYTES, &sender.ring_fd);
    sender.stats = stats_create(&sender.stats_fd);
    sender.peers = peer_table_create(&sender.peers_fd);
    CHECK(sender.consumer != NULL && sender.stats != NULL && sender.peers != NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sender.device), 0);
    const struct worker_lane lane = {WIRE_WIREGUARD, mode,         RING_BYTES,
                                     sender.stats,   sender.peers, -1};
    worker_open(&sender.worker, ROLE_tun_reader, &lane, sender.ring_fd, sender.device[0]);
}

static void sender_close(void) {
    const int fds[] = {sender.ring_fd, sender.stats_fd, sender.peers_fd, sender.device[0],
                       sender.device[1]};
    worker_close(&sender.worker);
    ring_detach(sender.consumer);
    stats_detach(sender.stats);
    peer_table_detach(sender.peers);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

static void attach(unsigned slot, struct link_format format) {
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, slot, slot, -1, &format), 0);
}

/* The key's number and the receiver's index are the slot's. */
static void set_key(unsigned slot, enum aead aead, uint64_t counter) {
    uint8_t key[SEAL_KEY];
    sealing_key(key, slot);
    CHECK_EQUAL(loop_set_sending_key(sender.worker.loop, slot, aead, key, slot, counter), 0);
}

static void allow(unsigned slot, const uint8_t *address, size_t length, unsigned prefix_length) {
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, slot, address, length, prefix_length), 0);
}

/* Hands the packets that were written to the device over to the loop. */
static void run(void) {
    CHECK_EQUAL(write(sender.worker.channel[0], "!", 1), 1);
    CHECK_EQUAL(loop_run(sender.worker.loop), LOOP_DOORBELL);
    char bell;
    CHECK_EQUAL(read(sender.worker.channel[1], &bell, 1), 1);
}

static void give(const uint8_t *packet, size_t length) {
    uint8_t bytes[VNET_LENGTH + MESSAGE_MAX] = {0};
    memcpy(bytes + VNET_LENGTH, packet, length);
    CHECK_EQUAL(write(sender.device[1], bytes, VNET_LENGTH + length), VNET_LENGTH + length);
}

static void give_packet(uint32_t destination) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, US, destination);
    give(packet, PACKET);
}

/* The next record of the ring, checked as a message under the slot's key and opened. */
struct opened {
    const struct ring_record *record;
    uint64_t counter;
    uint8_t content[MESSAGE_MAX];
    int length;
};

static uint64_t cursor;
static struct opened opened;

static bool open_next(enum aead aead) {
    uint8_t bytes[SEAL_KEY];
    bool corrupt = false;
    opened.record = ring_peek(sender.consumer, &cursor, &corrupt);
    CHECK(!corrupt);
    if (opened.record == NULL)
        return false;
    const uint8_t *message = ring_payload(opened.record) + STREAM_LENGTH_PREFIX;
    size_t length = be16_read(ring_payload(opened.record));
    sealing_key(bytes, opened.record->slot);
    struct receiving_key receiving = {.key = seal_key_new(aead, bytes), .aead = aead};
    CHECK_EQUAL(opened.record->length, STREAM_LENGTH_PREFIX + length);
    CHECK(session_is_data(message, length));
    CHECK_EQUAL(session_receiver_index(message), opened.record->slot);
    opened.counter = le64_read(message + 8);
    opened.length = session_open(&receiving, message, length, opened.content);
    CHECK(opened.length >= 0);
    seal_key_free(receiving.key);
    return true;
}

static void release(void) {
    ring_release(sender.consumer, cursor, &sender.consumer_stats);
}

static uint64_t counter(enum stats_counter which) {
    return stats_read_counter(sender.stats, ROLE_tun_reader, which);
}

static uint64_t dropped(enum stats_drop drop) {
    return stats_read_drop(sender.stats, drop);
}

static uint64_t field(unsigned slot, const char *name) {
    unsigned i = 0;
    for (; strcmp(peer_table_field_name(i), name) != 0; i++)
        CHECK(i + 1 < peer_table_n_fields());
    return peer_table_read(sender.peers, slot, i);
}

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
        attach(slot, sealed_format(MODE_TUN, true));
        set_key(slot, AEAD_CHACHA20_POLY1305, 0);
    }
    allow(1, ten, 4, 8);
    allow(1023, net, 4, 16);
    allow(0, host, 4, 32);
    allow(2, ula, 16, 8);
    for (size_t i = 0; i < 4; i++)
        give_packet(cases[i].destination);
    ipv6_make(packet, PACKET, US, 5);
    give(packet, PACKET);
    run();
    cursor = ring_first(sender.consumer);
    for (size_t i = 0; i < 4; i++) {
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.record->slot, cases[i].slot);
        CHECK_EQUAL(be16_read(opened.content + 18), cases[i].destination & 0xffff);
    }
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.record->slot, 2);
    CHECK(!open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(counter(COUNTER_packets), 5);
    sender_close();
}

static void a_packet_for_nobody_is_counted_and_answered(void) {
    const uint8_t ten[4] = {10};
    uint8_t answer[2000];
    sender_open(MODE_TUN);
    attach(1, sealed_format(MODE_TUN, true));
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    allow(1, ten, 4, 8);
    give_packet(0x0b000001);
    run();
    CHECK_EQUAL(dropped(DROP_tun_reader_no_peer), 1);
    CHECK_EQUAL(counter(COUNTER_packets), 1);
    CHECK_EQUAL(ring_used_bytes(sender.consumer), 0);
    CHECK(read(sender.device[1], answer, sizeof answer) > VNET_LENGTH + IPV4_HEADER_MIN);
    CHECK_EQUAL(answer[VNET_LENGTH + 9], 1); /* ICMP */
    CHECK_EQUAL(read(sender.device[1], answer, sizeof answer), -1);
    sender_close();
}

static void give_super_packet(void) {
    struct random random = {3};
    frame_make(&frame, &random, MODE_TUN, FRAME_TCP4_SUPER, 8000);
    ipv4_make(frame.bytes + VNET_LENGTH, IPV4_HEADER_MIN, US, 0x0a000002);
    be16_write(frame.bytes + VNET_LENGTH + 2, 8000);
    CHECK(frame.n_packets > 2);
    CHECK_EQUAL(write(sender.device[1], frame.bytes, frame.length), frame.length);
}

static void without_link_or_key_each_packet_is_counted_on_the_peers_name(void) {
    const uint8_t ten[4] = {10};
    sender_open(MODE_TUN);
    allow(5, ten, 4, 8);
    give_packet(0x0a000002); /* no link */
    run();
    attach(5, sealed_format(MODE_TUN, true));
    give_super_packet(); /* no key */
    run();
    set_key(5, AEAD_CHACHA20_POLY1305, 0);
    loop_forget_sending_key(sender.worker.loop, 5);
    give_packet(0x0a000002);
    run();
    CHECK_EQUAL(ring_used_bytes(sender.consumer), 0);
    CHECK_EQUAL(dropped(DROP_tun_reader_no_session), 2 + frame.n_packets);
    CHECK_EQUAL(counter(COUNTER_packets), 2 + frame.n_packets);
    CHECK_EQUAL(field(5, "no_session_packets"), 2 + frame.n_packets);
    CHECK_EQUAL(field(5, "sent_ns"), 0);
    sender_close();
}

/* -- keys -------------------------------------------------------------------------------------- */

static void counters_go_up_by_one_and_a_key_that_is_used_up_seals_no_more(void) {
    const uint8_t ten[4] = {10};
    sender_open(MODE_TUN);
    attach(1, sealed_format(MODE_TUN, true));
    allow(1, ten, 4, 8);
    set_key(1, AEAD_AES_256_GCM, REJECT_AFTER_MESSAGES - 3);
    for (int i = 0; i < 5; i++)
        give_packet(0x0a000002);
    run();
    cursor = ring_first(sender.consumer);
    for (uint64_t left = 3; left > 0; left--) {
        CHECK(open_next(AEAD_AES_256_GCM));
        CHECK_EQUAL(opened.counter, REJECT_AFTER_MESSAGES - left);
    }
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(dropped(DROP_tun_reader_no_session), 2);
    CHECK_EQUAL(field(1, "sealed"), REJECT_AFTER_MESSAGES);
    CHECK(loop_send_keepalive(sender.worker.loop, 1) < 0);
    sender_close();
}

static void a_new_key_takes_over_with_its_own_counter(void) {
    const uint8_t ten[4] = {10};
    sender_open(MODE_TUN);
    attach(1, sealed_format(MODE_TUN, true));
    allow(1, ten, 4, 8);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    give_packet(0x0a000002);
    run();
    set_key(1, AEAD_AES_256_GCM, 7);
    give_packet(0x0a000002);
    run();
    cursor = ring_first(sender.consumer);
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.counter, 0);
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.counter, 7);
    CHECK_EQUAL(field(1, "sealed"), 8);
    attach(1, sealed_format(MODE_TUN, true)); /* a new link has no key yet */
    give_packet(0x0a000002);
    run();
    CHECK_EQUAL(dropped(DROP_tun_reader_no_session), 1);
    sender_close();
}

static void a_keepalive_is_an_empty_message_and_nobodys_packet(void) {
    sender_open(MODE_TUN);
    attach(3, sealed_format(MODE_TUN, true));
    CHECK(loop_send_keepalive(sender.worker.loop, 3) < 0); /* no key */
    CHECK(loop_send_keepalive(sender.worker.loop, 4) < 0);
    CHECK(loop_send_keepalive(sender.worker.loop, UINT32_MAX) < 0);
    set_key(3, AEAD_CHACHA20_POLY1305, 0);
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, 3), 0);
    cursor = ring_first(sender.consumer);
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.length, 0);
    CHECK_EQUAL(opened.record->length, STREAM_LENGTH_PREFIX + DATA_MESSAGE_MIN);
    CHECK_EQUAL(opened.record->n_packets, 0);
    CHECK_EQUAL(opened.record->n_bytes, 0);
    CHECK_EQUAL(counter(COUNTER_packets) + counter(COUNTER_frames), 0);
    CHECK(field(3, "sent_ns") > 0);
    CHECK_EQUAL(field(3, "sent_data_ns"), 0);
    sender_close();
}

static void keepalives_for_a_full_ring_are_refused_and_use_up_no_counter(void) {
    uint64_t n = 0;
    sender_open(MODE_TUN);
    attach(3, sealed_format(MODE_TUN, true));
    set_key(3, AEAD_CHACHA20_POLY1305, 0);
    while (loop_send_keepalive(sender.worker.loop, 3) == 0)
        n++;
    CHECK_EQUAL(field(3, "sealed"), n);
    cursor = ring_first(sender.consumer);
    for (uint64_t i = 0; i < n; i++) {
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.counter, i);
    }
    release();
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, 3), 0);
    sender_close();
}

/* -- content ----------------------------------------------------------------------------------- */

static void a_bare_packet_is_padded_with_zeros_to_16_bytes_and_nothing_else_is(void) {
    const uint8_t ten[4] = {10};
    uint8_t packet[160];
    sender_open(MODE_TUN);
    attach(1, sealed_format(MODE_TUN, true));
    allow(1, ten, 4, 8);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    for (size_t length = IPV4_HEADER_MIN; length < 120; length++) {
        ipv4_make(packet, length, US, 0x0a000002);
        memset(packet + IPV4_HEADER_MIN, 0xee, length - IPV4_HEADER_MIN);
        give(packet, length);
        run();
        cursor = ring_first(sender.consumer);
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.length, (length + 15) / 16 * 16);
        CHECK_EQUAL(memcmp(opened.content, packet, length), 0);
        for (int i = (int)length; i < opened.length; i++)
            CHECK_EQUAL(opened.content[i], 0);
        CHECK_EQUAL(opened.record->n_bytes, length);
        release();
    }
    give_super_packet();
    run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.content[0], MESSAGE_SUPER);
    CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + frame.length);
    sender_close();
}

/* Whatever the peer says that it takes, the prefix has 16 bits. */
static void no_frame_is_so_long_that_its_message_overflows_the_prefix(void) {
    const uint8_t ten[4] = {10};
    struct link_format greedy = sealed_format(MODE_TUN, true);
    static uint8_t packet[MESSAGE_MAX];
    int size = 1 << 20;
    greedy.message_max = SIZE_MAX;
    sender_open(MODE_TUN);
    CHECK_EQUAL(setsockopt(sender.device[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    attach(1, greedy);
    allow(1, ten, 4, 8);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    size_t n = 0, n_sent = 0;
    for (size_t length = MESSAGE_MAX - 64; length <= MESSAGE_MAX; length++, n++) {
        ipv4_make(packet, length, US, 0x0a000002);
        give(packet, length);
        run();
        cursor = ring_first(sender.consumer);
        n_sent += open_next(AEAD_CHACHA20_POLY1305);
        release();
    }
    CHECK(n_sent >= 17); /* up to SEALED_MESSAGE_MAX in any case */
    CHECK_EQUAL(dropped(DROP_tun_reader_too_large), n - n_sent);
    sender_close();
}

static void a_tap_frame_goes_to_the_one_peer_and_is_not_padded(void) {
    uint8_t ethernet[61] = {0xff};
    sender_open(MODE_TAP);
    give(ethernet, sizeof ethernet);
    run();
    CHECK_EQUAL(dropped(DROP_tun_reader_no_session), 1);
    attach(0, sealed_format(MODE_TAP, true));
    set_key(0, AEAD_AES_256_GCM, 0);
    give(ethernet, sizeof ethernet);
    give(ethernet, ETHERNET_HEADER - 1);
    run();
    cursor = ring_first(sender.consumer);
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + sizeof ethernet);
    CHECK_EQUAL(memcmp(opened.content + MESSAGE_TYPE_LENGTH, ethernet, sizeof ethernet), 0);
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(dropped(DROP_tun_reader_not_ip), 1);
    sender_close();
}

int main(void) {
    RUN(a_packet_goes_to_the_peer_with_the_longest_prefix);
    RUN(a_packet_for_nobody_is_counted_and_answered);
    RUN(counters_go_up_by_one_and_a_key_that_is_used_up_seals_no_more);
    RUN(a_new_key_takes_over_with_its_own_counter);
    RUN(a_keepalive_is_an_empty_message_and_nobodys_packet);
    RUN(keepalives_for_a_full_ring_are_refused_and_use_up_no_counter);
    RUN(a_bare_packet_is_padded_with_zeros_to_16_bytes_and_nothing_else_is);
    RUN(a_tap_frame_goes_to_the_one_peer_and_is_not_padded);
    RUN(without_link_or_key_each_packet_is_counted_on_the_peers_name);
    RUN(no_frame_is_so_long_that_its_message_overflows_the_prefix);
    return EXIT_SUCCESS;
}
