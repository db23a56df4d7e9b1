/* Packets that are too long for the path to a peer on UDP: their sender gets an answer where it can
 * do something about it, and else they go in fragments. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "outbound/answer_limit.h"
#include "packet/byteorder.h"
#include "check.h"
#include "icmp_answer.h"
#include "sender.h"
#include "super_packet.h"

enum {
    SLOT = 3,
    MTU = 1420,
    PATH_MTU = 1330,
    NARROW = 1200,
    TO = 0x0a000002,
    ICMP_PAUSE_US = 10500
};

static uint8_t packet[2000];

static void open_path(size_t packet_max) {
    sender_open(MODE_TUN);
    sender_attach(SLOT, datagram_format(MTU));
    set_key(SLOT, AEAD_CHACHA20_POLY1305, 0);
    sender_allow_ten(SLOT);
    loop_set_packet_max(sender.worker.loop, SLOT, packet_max, 0);
}

static void make_ipv4(size_t length, bool may_fragment) {
    ipv4_make(packet, length, US, TO);
    packet[6] = may_fragment ? 0 : 0x40;
}

static void give_and_run(size_t length) {
    give(packet, length);
    sender_run();
    usleep(ICMP_PAUSE_US); /* answers are limited to so many a second */
}

/* The one record in the ring; opens it. */
static void take(void) {
    bool corrupt = false;
    opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt);
    CHECK(opened.record != NULL);
    open_message(AEAD_CHACHA20_POLY1305, true, opened.record->payload, opened.record->length);
    sender_release();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
}

static void check_passes(size_t length, uint32_t segment) {
    give_and_run(length);
    take();
    CHECK_EQUAL(opened.record->segment, segment);
    CHECK_EQUAL(opened.record->n_packets, 1);
    CHECK_EQUAL(memcmp(opened.content, packet, length), 0);
}

/* The sender of `bytes` gets an answer with the MTU, and nothing goes out. */
static void check_answered(const uint8_t *bytes, unsigned mtu) {
    uint8_t answer[VNET_LENGTH + 2000];
    ssize_t n = read(sender.device[1], answer, sizeof answer);
    CHECK(n > VNET_LENGTH);
    const char *fault =
        icmp_answer_fault(bytes, answer + VNET_LENGTH, (size_t)n - VNET_LENGTH, sizeof answer, mtu);
    if (fault != NULL)
        printf("        wrong %s\n", fault);
    CHECK(fault == NULL);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
}

static void check_not_answered(void) {
    uint8_t answer[2000];
    CHECK_EQUAL(read(sender.device[1], answer, sizeof answer), -1);
}

/* -- packets ----------------------------------------------------------------------------------- */

static void a_packet_that_may_not_be_fragmented_is_refused_and_answered(void) {
    open_path(PATH_MTU);
    make_ipv4(PATH_MTU, false);
    check_passes(PATH_MTU, SEGMENT_WHOLE);
    make_ipv4(PATH_MTU + 1, false);
    give_and_run(PATH_MTU + 1);
    check_answered(packet, PATH_MTU);
    ipv6_make(packet, PATH_MTU + 1, US, TO);
    give_and_run(PATH_MTU + 1);
    check_answered(packet, PATH_MTU);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu), 2);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3);
    check_not_answered();
    sender_close();
}

static void a_packet_that_may_be_fragmented_is(void) {
    open_path(PATH_MTU);
    make_ipv4(PATH_MTU + 1, true);
    check_passes(PATH_MTU + 1, SEGMENT_FRAGMENTS);
    make_ipv4(MTU, true);
    check_passes(MTU, SEGMENT_FRAGMENTS);
    make_ipv4(PATH_MTU, true);
    check_passes(PATH_MTU, SEGMENT_WHOLE);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    check_not_answered();
    sender_close();
}

/* A router is said to take so little that it has to cut what every sender may send. */
static void what_fits_the_path_may_be_fragmented_where_it_is_so_narrow(void) {
    open_path(PATH_MTU);
    loop_set_packet_max(sender.worker.loop, SLOT, PATH_MTU, NARROW);
    make_ipv4(NARROW, false);
    check_passes(NARROW, SEGMENT_WHOLE);
    make_ipv4(NARROW + 1, false);
    check_passes(NARROW + 1, SEGMENT_FRAGMENTS);
    make_ipv4(PATH_MTU, false);
    check_passes(PATH_MTU, SEGMENT_FRAGMENTS);
    make_ipv4(PATH_MTU + 1, false);
    give_and_run(PATH_MTU + 1);
    check_answered(packet, PATH_MTU);
    loop_set_packet_max(sender.worker.loop, SLOT, PATH_MTU, 0);
    make_ipv4(PATH_MTU, false);
    check_passes(PATH_MTU, SEGMENT_WHOLE);
    sender_close();
}

/* No IPv6 sender goes below 1280, so what is that long has to get through. */
static void ipv6_packets_up_to_its_least_mtu_pass_every_path(void) {
    open_path(NARROW);
    ipv6_make(packet, 1281, US, TO);
    give_and_run(1281);
    check_answered(packet, 1280);
    ipv6_make(packet, 1280, US, TO);
    check_passes(1280, SEGMENT_FRAGMENTS);
    ipv6_make(packet, NARROW, US, TO);
    check_passes(NARROW, SEGMENT_WHOLE);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu), 1);
    sender_close();
}

static void an_ipv4_sender_may_get_less_than_ipv6s_least_mtu(void) {
    open_path(NARROW);
    make_ipv4(NARROW + 1, false);
    give_and_run(NARROW + 1);
    check_answered(packet, NARROW);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu), 1);
    sender_close();
}

/* A frame of an Ethernet has no sender to answer, and is behind its message type. */
static void an_ethernet_frame_goes_in_fragments(void) {
    const uint32_t expected[] = {SEGMENT_WHOLE, SEGMENT_FRAGMENTS};
    struct link_format format = datagram_format(MTU);
    format.mode = MODE_TAP;
    sender_open(MODE_TAP);
    sender_attach(0, format);
    set_key(0, AEAD_CHACHA20_POLY1305, 0);
    loop_set_packet_max(sender.worker.loop, 0, PATH_MTU, 0);
    memset(packet, 0, sizeof packet);
    for (size_t i = 0; i < 2; i++) {
        size_t length = PATH_MTU - MESSAGE_TYPE_LENGTH + i;
        give_and_run(length);
        take();
        CHECK_EQUAL(opened.record->segment, expected[i]);
        CHECK_EQUAL(memcmp(opened.content + MESSAGE_TYPE_LENGTH, packet, length), 0);
    }
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    check_not_answered();
    sender_close();
}

/* TCP cuts as it has to. */
static void a_stream_has_no_path_mtu(void) {
    sender_open(MODE_TUN);
    sender_attach(SLOT, sealed_format(MODE_TUN, true));
    set_key(SLOT, AEAD_CHACHA20_POLY1305, 0);
    sender_allow_ten(SLOT);
    loop_set_packet_max(sender.worker.loop, SLOT, PATH_MTU, 0);
    make_ipv4(PATH_MTU + 1, false);
    give_and_run(PATH_MTU + 1);
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    check_not_answered();
    sender_close();
}

static void without_a_path_mtu_everything_goes(void) {
    open_path(0);
    make_ipv4(2000, false);
    check_passes(2000, SEGMENT_WHOLE);
    sender_close();
}

static void padding_never_goes_beyond_the_mtu(void) {
    const size_t limits[] = {0, PATH_MTU};
    for (int i = 0; i < 2; i++) {
        size_t mtu = limits[i] != 0 ? limits[i] : MTU;
        open_path(limits[i]);
        for (size_t length = mtu - 40; length <= mtu; length++) {
            size_t padded = (length + 15) / 16 * 16;
            make_ipv4(length, false);
            give(packet, length);
            sender_run();
            take();
            CHECK_EQUAL(opened.length, padded < mtu ? padded : mtu);
        }
        sender_close();
    }
}

/* The flood that once made a black hole of every narrow path. */
static void what_is_sent_to_an_absent_peer_hides_no_narrow_path(void) {
    enum { N_FLOOD = 150, N_TOO_BIG = 40, ABSENT = 0x0b000001 };
    uint8_t answer[2000];
    const uint8_t eleven[4] = {11};
    unsigned n_answered = 0;
    open_path(PATH_MTU);
    sender_allow(SLOT + 1, eleven, sizeof eleven, 8);
    for (int i = 0; i < N_FLOOD; i++)
        give_packet(ABSENT);
    make_ipv4(PATH_MTU + 1, false);
    for (int i = 0; i < N_TOO_BIG; i++)
        give(packet, PATH_MTU + 1);
    sender_run();
    for (ssize_t n; (n = read(sender.device[1], answer, sizeof answer)) > 0;)
        n_answered += icmp_answer_fault(packet, answer + VNET_LENGTH, (size_t)n - VNET_LENGTH,
                                        sizeof answer, PATH_MTU) == NULL;
    CHECK_EQUAL(n_answered, N_TOO_BIG);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu), N_TOO_BIG);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), N_FLOOD);
    sender_close();
}

static void a_packet_that_is_not_answered_is_counted_apart(void) {
    enum { N = 150 };
    open_path(PATH_MTU);
    make_ipv4(PATH_MTU + 1, false);
    for (int i = 0; i < N; i++) {
        give(packet, PATH_MTU + 1);
        if (i % 30 == 29)
            sender_run();
    }
    CHECK(sender_dropped(DROP_tun_reader_exceeds_path_mtu) >= ANSWERS_PER_SENDER_AND_PEER);
    CHECK(sender_dropped(DROP_tun_reader_exceeds_path_mtu_unanswered) > 0);
    CHECK_EQUAL(sender_dropped_in_all(), N);
    sender_close();
}

/* -- super-packets ----------------------------------------------------------------------------- */

static struct super_packet frame;

static void give_super(int version, size_t size, size_t n, bool may_fragment) {
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    struct random random = {41};
    const struct super_packet_shape shape = {.version = version, .size = size, .payload = n * size};
    super_packet_make(&frame, &random, &shape);
    if (version == 4) {
        frame.bytes[6] = may_fragment ? 0 : 0x40;
        naive_ip_checksum(frame.bytes);
    }
    vnet_write(&frame.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, frame.bytes, frame.length);
    give_frame(bytes, VNET_LENGTH + frame.length);
    sender_run();
    usleep(ICMP_PAUSE_US);
}

static void check_segments_in_fragments(size_t n) {
    uint8_t segment[2000];
    bool corrupt = false;
    for (size_t i = 0; i < n; i++) {
        opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt);
        CHECK(opened.record != NULL);
        CHECK_EQUAL(opened.record->segment, SEGMENT_FRAGMENTS);
        CHECK_EQUAL(opened.record->n_packets, 1);
        open_message(AEAD_CHACHA20_POLY1305, true, opened.record->payload, opened.record->length);
        size_t length = super_packet_segment(&frame, i, segment);
        CHECK_EQUAL(opened.length, length); /* longer than the path: no padding */
        CHECK_EQUAL(memcmp(opened.content, segment, length), 0);
    }
    sender_release();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
}

static void a_super_packet_whose_segments_are_too_long_is_answered(void) {
    open_path(PATH_MTU);
    give_super(4, PATH_MTU - 40, 10, false);
    cursor = atomic_load(&sender.lane.ring->shared->head); /* they fit: not looked at here */
    sender_release();
    give_super(4, PATH_MTU - 39, 10, false);
    check_answered(frame.bytes, PATH_MTU);
    give_super(6, PATH_MTU - 59, 7, false);
    check_answered(frame.bytes, PATH_MTU);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_exceeds_path_mtu), 17);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 27);
    sender_close();
}

static void segments_that_cannot_be_made_shorter_go_in_fragments(void) {
    open_path(NARROW);
    give_super(6, 1280 - 60, 10, false);
    check_segments_in_fragments(10);
    give_super(4, 1300, 9, true);
    check_segments_in_fragments(9);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 19);
    check_not_answered();
    sender_close();
}

int main(void) {
    RUN(a_packet_that_may_not_be_fragmented_is_refused_and_answered);
    RUN(a_packet_that_may_be_fragmented_is);
    RUN(what_fits_the_path_may_be_fragmented_where_it_is_so_narrow);
    RUN(ipv6_packets_up_to_its_least_mtu_pass_every_path);
    RUN(an_ipv4_sender_may_get_less_than_ipv6s_least_mtu);
    RUN(an_ethernet_frame_goes_in_fragments);
    RUN(a_stream_has_no_path_mtu);
    RUN(without_a_path_mtu_everything_goes);
    RUN(padding_never_goes_beyond_the_mtu);
    RUN(what_is_sent_to_an_absent_peer_hides_no_narrow_path);
    RUN(a_packet_that_is_not_answered_is_counted_apart);
    RUN(a_super_packet_whose_segments_are_too_long_is_answered);
    RUN(segments_that_cannot_be_made_shorter_go_in_fragments);
    return EXIT_SUCCESS;
}
