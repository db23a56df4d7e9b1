/* The tun-reader when a peer has no session: the gateway is asked for one, often enough and not too
 * often, and what may wait for it waits. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "outbound/parking.h"
#include "packet/byteorder.h"
#include "check.h"
#include "sender.h"

enum { N_SLOTS = 3, HERE = -1 };

static uint32_t address_of(unsigned slot) {
    return 0x0a000001 | slot << 16;
}

static void open_peers(void) {
    sender_open(MODE_TUN);
    for (unsigned slot = 1; slot <= N_SLOTS; slot++)
        sender_allow(slot, (const uint8_t[4]){10, (uint8_t)slot}, 4, 16);
}

/* Each peer was asked for so many times. */
static void check_asked(size_t n) {
    size_t n_asked[N_SLOTS + 1] = {0};
    CHECK_EQUAL(sender.n_events, n * N_SLOTS);
    for (size_t i = 0; i < sender.n_events; i++) {
        CHECK_EQUAL(sender.events[i].kind, EVENT_NO_SESSION);
        CHECK(sender.events[i].slot >= 1 && sender.events[i].slot <= N_SLOTS);
        n_asked[sender.events[i].slot]++;
    }
    for (unsigned slot = 1; slot <= N_SLOTS; slot++)
        CHECK_EQUAL(n_asked[slot], n);
}

static void give_to_all(int n_rounds) {
    for (int i = 0; i < n_rounds; i++)
        for (unsigned slot = 1; slot <= N_SLOTS; slot++)
            give_packet(address_of(slot));
}

/* -- asking ------------------------------------------------------------------------------------ */

static void every_peer_of_a_burst_is_asked_for_once_a_second(void) {
    open_peers();
    give_to_all(10);
    sender_run();
    check_asked(1);
    give_to_all(2);
    sender_run();
    check_asked(1);
    usleep(1000 * 1000);
    give_to_all(2);
    sender_run();
    check_asked(2);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 14 * N_SLOTS);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 14 * N_SLOTS);
    sender_close();
}

static void a_peer_with_a_session_is_not_asked_for(void) {
    sender_open(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    sender_allow_ten(1);
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    give_packet(address_of(1));
    sender_run();
    CHECK_EQUAL(sender.n_events, 0);
    sender_close();
}

/* -- the side that dials ----------------------------------------------------------------------- */

static void open_holding(void) {
    sender_open(MODE_TUN);
    sender_allow_ten(0);
    loop_hold_without_session(sender.worker.loop);
}

static void what_is_held_asks_for_a_session_and_goes_out_when_there_is_one(void) {
    open_holding();
    sender_run();
    CHECK_EQUAL(sender.n_events, 0); /* no session is wanted */
    give_packet(address_of(0));
    sender_run();
    sender_run();
    CHECK_EQUAL(sender.n_events, 1);
    CHECK_EQUAL(sender.events[0].kind, EVENT_NO_SESSION);
    CHECK_EQUAL(sender.events[0].slot, 0);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 0); /* it is still in the device's queue */
    sender_attach(0, sealed_format(MODE_TUN, true));
    set_key(0, AEAD_CHACHA20_POLY1305, 0);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void what_is_held_too_long_is_dropped_and_not_answered_and_it_is_asked_again(void) {
    uint8_t answer[2000];
    open_holding();
    give_packet(address_of(0));
    sender_run();
    usleep(1020 * 1000);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(sender.n_events, 2);
    CHECK_EQUAL(read(sender.device[1], answer, sizeof answer), -1);
    sender_close();
}

static void the_first_frame_long_after_a_link_has_ended_waits_for_the_next(void) {
    open_holding();
    sender_run();
    usleep(1020 * 1000);
    sender_run();
    give_packet(address_of(0));
    sender_run();
    sender_run();
    CHECK_EQUAL(sender.n_events, 1);
    CHECK_EQUAL(sender.events[0].kind, EVENT_NO_SESSION);
    sender_attach(0, sealed_format(MODE_TUN, true));
    set_key(0, AEAD_CHACHA20_POLY1305, 0);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void a_frame_waits_as_well_before_the_link_of_a_session_that_is_too_old_ends(void) {
    open_holding();
    sender_attach(0, sealed_format(MODE_TUN, true));
    set_session(0, AEAD_CHACHA20_POLY1305, 0, 0, 1);
    sender_run();
    give_packet(address_of(0));
    sender_run();
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    loop_detach_link(sender.worker.loop, 0);
    usleep(1020 * 1000);
    sender_run();
    CHECK_EQUAL(sender_dropped_in_all(),
                1); /* a second from the first frame on, not from the end */
    sender_close();
}

/* -- peers on UDP ------------------------------------------------------------------------------ */

static void set_on_udp(unsigned slot) {
    const struct udp_address endpoint = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {192, 0, 2}};
    peer_write_endpoint(&sender.lane.peers->by_link_reader[slot], &endpoint);
}

static void give_numbered(unsigned slot, uint32_t number) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, US, address_of(slot));
    be32_write(packet + IPV4_HEADER_SIZE, number);
    give(packet, PACKET);
}

/* The next datagram in the ring, which is for that peer, has that packet. */
static void check_numbered(unsigned slot, uint32_t number) {
    bool corrupt = false;
    opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt);
    CHECK(opened.record != NULL);
    CHECK_EQUAL(opened.record->slot, slot);
    open_message(AEAD_CHACHA20_POLY1305, true, opened.record->payload, opened.record->length);
    CHECK_EQUAL(be32_read(opened.content + IPV4_HEADER_SIZE), number);
}

static void for_peers_on_udp_packets_wait_and_go_out_in_order(void) {
    uint8_t answer[2000];
    open_peers();
    for (unsigned slot = 1; slot <= 2; slot++)
        set_on_udp(slot);
    for (uint32_t i = 0; i < 20; i++)
        give_numbered(1 + i % 2, i);
    sender_run();
    CHECK_EQUAL(sender.n_events, 2);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    sender_attach(2, datagram_format(1420)); /* a link, but no key yet */
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    set_key(2, AEAD_CHACHA20_POLY1305, 0);
    give_numbered(2, 21); /* behind those that wait */
    give_numbered(1, 22);
    sender_run();
    for (uint32_t i = 1; i <= 21; i += 2)
        check_numbered(2, i);
    sender_attach(1, datagram_format(1420));
    set_key(1, AEAD_CHACHA20_POLY1305, 0);
    sender_run();
    for (uint32_t i = 0; i <= 18; i += 2)
        check_numbered(1, i);
    check_numbered(1, 22);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 22);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    CHECK_EQUAL(read(sender.device[1], answer, sizeof answer), -1);
    sender_close();
}

/* As if it had come so many ms ago. */
static bool stage_of(int origin, unsigned slot, uint64_t ms) {
    uint8_t frame[VNET_LENGTH + PACKET] = {0};
    struct queue_entry entry = {
        .length = sizeof frame,
        .enqueued_ns = clock_now_ns() - ms * 1000000,
    };
    ipv4_make(frame + VNET_LENGTH, PACKET, US, address_of(slot));
    return parking_append(tun_reader_of(sender.worker.loop)->parking, slot, origin, &entry, frame);
}

static bool stage_ago(unsigned slot, uint64_t ms) {
    return stage_of(HERE, slot, ms);
}

static void what_has_waited_too_long_is_dropped_and_the_rest_waits_on(void) {
    open_peers();
    CHECK(stage_ago(1, PARKED_MS_MAX + 1));
    CHECK(stage_ago(2, PARKED_MS_MAX + 1));
    CHECK(stage_ago(2, PARKED_MS_MAX - 1000));
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 2);
    CHECK_EQUAL(sender_field(1, "no_session_packets"), 1);
    CHECK_EQUAL(sender_field(2, "no_session_packets"), 1);
    CHECK_EQUAL(parking_find(tun_reader_of(sender.worker.loop)->parking, 1), -1);
    CHECK_EQUAL(parking_find(tun_reader_of(sender.worker.loop)->parking, 2), 0);
    sender_close();
}

static void what_waits_is_looked_at_although_nothing_comes(void) {
    open_peers();
    CHECK(stage_ago(1, PARKED_MS_MAX - 100));
    worker_start(&sender.worker);
    for (int i = 0; i < 500 && sender_dropped(DROP_tun_reader_no_session) == 0; i++)
        usleep(10 * 1000);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(worker_stop(&sender.worker), LOOP_DOORBELL);
    sender_close();
}

static void so_many_peers_wait_and_each_with_so_much(void) {
    static uint8_t packet[60000];
    uint64_t n_given = 0;
    open_peers();
    set_on_udp(1);
    ipv4_make(packet, sizeof packet, US, address_of(1));
    for (; n_given < 2 + LINK_QUEUE_BYTES / sizeof packet; n_given++) {
        give(packet, sizeof packet);
        sender_run();
    }
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session),
                n_given - LINK_QUEUE_BYTES / sizeof packet);
    for (unsigned slot = 2; slot <= PARKED_PEERS_MAX; slot++)
        CHECK(stage_of((int)slot, slot, 0));
    CHECK(!stage_ago(PARKED_PEERS_MAX + 1, 0));
    CHECK(stage_ago(PARKED_PEERS_MAX, 0));
    sender_close();
}

/* Whoever sends to many absent peers takes the places of some, not of all. */
static void frames_of_one_origin_wait_for_few_peers(void) {
    enum { LOUD = 200, QUIET = 201 };
    open_peers();
    unsigned n_loud = 0, n_here = 0;
    for (unsigned slot = 1; slot <= PARKED_PEERS_MAX; slot++)
        n_loud += stage_of(LOUD, slot, 0);
    for (unsigned slot = 1; slot <= 2 * PARKED_PEERS_MAX; slot++)
        n_here += stage_ago(slot, 0);
    CHECK_EQUAL(n_loud, PARKED_FOR_A_PEER_MAX);
    CHECK_EQUAL(n_here, PARKED_FOR_A_PEER_MAX + PARKED_FOR_US_MAX); /* some wait already */
    CHECK(stage_of(QUIET, 300, 0));
    CHECK(stage_of(LOUD, 300, 0)); /* it has a place */
    CHECK(!stage_of(LOUD, 301, 0));
    while (parking_find(tun_reader_of(sender.worker.loop)->parking, 1) >= 0)
        parking_pop(tun_reader_of(sender.worker.loop)->parking, 0);
    CHECK(stage_of(LOUD, 301, 0)); /* a place that is free again */
    sender_close();
}

/* By the allowed IPs of its sender. */
static void a_frames_origin_is_the_peer_that_its_source_belongs_to(void) {
    uint8_t packet[PACKET];
    open_peers();
    set_on_udp(1);
    ipv4_make(packet, sizeof packet, address_of(2), address_of(1));
    give(packet, sizeof packet);
    sender_run();
    CHECK_EQUAL(tun_reader_of(sender.worker.loop)->parking->n, 1);
    CHECK_EQUAL(tun_reader_of(sender.worker.loop)->parking->peers[0].origin, 2);
    sender_close();
}

static void all_peers_that_wait_share_one_pool(void) {
    static uint8_t frame[60000];
    const struct queue_entry entry = {.length = sizeof frame, .enqueued_ns = clock_now_ns()};
    size_t n_staged = 0;
    open_peers();
    struct parking *parking = tun_reader_of(sender.worker.loop)->parking;
    for (unsigned slot = 1; slot <= PARKED_PEERS_MAX; slot++) {
        size_t n = 0;
        while (parking_append(parking, slot, (int)slot, &entry, frame))
            n++;
        CHECK(n > 0); /* its share is its own */
        n_staged += n;
    }
    CHECK(n_staged * sizeof frame > PARKING_POOL_BYTES);
    CHECK(n_staged * sizeof frame < PARKING_POOL_BYTES + PARKED_PEERS_MAX * LINK_QUEUE_SHARE);
    CHECK(parking->pool.n_used <= PARKING_POOL_BYTES);
    while (parking->n > 0)
        parking_pop(parking, 0);
    CHECK_EQUAL(parking->pool.n_used, 0);
    sender_close();
}

int main(void) {
    RUN(every_peer_of_a_burst_is_asked_for_once_a_second);
    RUN(a_peer_with_a_session_is_not_asked_for);
    RUN(what_is_held_asks_for_a_session_and_goes_out_when_there_is_one);
    RUN(what_is_held_too_long_is_dropped_and_not_answered_and_it_is_asked_again);
    RUN(the_first_frame_long_after_a_link_has_ended_waits_for_the_next);
    RUN(a_frame_waits_as_well_before_the_link_of_a_session_that_is_too_old_ends);
    RUN(for_peers_on_udp_packets_wait_and_go_out_in_order);
    RUN(what_has_waited_too_long_is_dropped_and_the_rest_waits_on);
    RUN(what_waits_is_looked_at_although_nothing_comes);
    RUN(so_many_peers_wait_and_each_with_so_much);
    RUN(frames_of_one_origin_wait_for_few_peers);
    RUN(a_frames_origin_is_the_peer_that_its_source_belongs_to);
    RUN(all_peers_that_wait_share_one_pool);
    return EXIT_SUCCESS;
}
