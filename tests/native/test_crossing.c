/* The tun-readers of two lanes: what one has read for a peer that the other carries crosses, and is
 * sealed there. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "check.h"
#include "frames.h"
#include "lanes.h"
#include "sender.h"

enum { HERE = 3, THERE = 7, BOTH = 9, N_FLOWS = 64 };

static void set_ways(unsigned slot, unsigned n, uint8_t first, int by_flow) {
    const uint8_t lanes[2] = {first, 1 - first};
    CHECK_EQUAL(loop_set_ways(sender.worker.loop, slot, lanes, n, by_flow), 0);
}

/* 10.SLOT.0.0/16 is the peer's, whose link is here. */
static void open_peer(unsigned slot) {
    sender_attach(slot, sealed_format(MODE_TUN, true));
    set_key(slot, AEAD_AES_256_GCM, 0);
    sender_allow(slot, (const uint8_t[4]){10, (uint8_t)slot}, 4, 16);
}

static void open_lane(unsigned lane) {
    sender_open_lane(lane);
    open_peer(HERE);
    set_ways(HERE, 1, (uint8_t)lane, 0);
    sender_allow(THERE, (const uint8_t[4]){10, THERE}, 4, 16);
    set_ways(THERE, 1, (uint8_t)(1 - lane), 0);
}

static uint32_t address_of(unsigned slot) {
    return 10u << 24 | slot << 16 | 5;
}

/* Takes the next record that crosses to the other lane; NULL: there is none. */
static const struct ring_view *next_crossed(void) {
    static uint64_t at;
    bool corrupt = false;
    at = ring_first(sender.lane.to_lane);
    const struct ring_view *view = ring_peek(sender.lane.to_lane, &at, &corrupt);
    CHECK(!corrupt);
    ring_release(sender.lane.to_lane, at, &sender.lane.ring_stats);
    return view;
}

static unsigned n_crossed(void) {
    unsigned n = 0;
    while (next_crossed() != NULL)
        n++;
    return n;
}

static struct ring_record *put(unsigned slot, const uint8_t *bytes, size_t length) {
    struct ring *ring = sender.lane.from_lane;
    struct ring_record *record = ring_reserve(ring, sizeof *record + length + RING_RECORD_ALIGN);
    CHECK(record != NULL);
    *record = (struct ring_record){
        .offset = sizeof *record, .length = (uint32_t)length, .n_packets = 1, .slot = slot};
    memcpy(ring_payload(record), bytes, length);
    ring_commit(ring, record);
    return record;
}

static void put_packet(unsigned slot) {
    uint8_t bytes[VNET_LENGTH + PACKET] = {0};
    bytes[VNET_LENGTH] = 0x45;
    bytes[VNET_LENGTH + 3] = PACKET;
    put(slot, bytes, sizeof bytes);
}

static void run(void) {
    ring_publish(sender.lane.from_lane, &sender.lane.ring_stats);
    sender_run();
}

static void what_is_for_a_peer_of_another_lane_crosses_as_the_device_gave_it(void) {
    for (unsigned lane = 0; lane < 2; lane++) {
        open_lane(lane);
        give_packet(address_of(THERE));
        give_packet(address_of(HERE));
        sender_run();
        const struct ring_view *view = next_crossed();
        CHECK(view != NULL);
        CHECK_EQUAL(view->slot, THERE);
        CHECK_EQUAL(view->length, VNET_LENGTH + PACKET);
        CHECK_EQUAL(view->payload[VNET_LENGTH] >> 4, 4);
        CHECK(next_crossed() == NULL);
        CHECK(open_next(AEAD_AES_256_GCM));
        CHECK_EQUAL(opened.record->slot, HERE);
        CHECK(!open_next(AEAD_AES_256_GCM));
        CHECK_EQUAL(sender_counter(COUNTER_packets), 2);
        CHECK_EQUAL(sender_counter(COUNTER_crossed), 1);
        CHECK_EQUAL(sender_dropped_in_all(), 0);
        sender_close();
    }
}

static void a_peer_without_a_lane_is_for_lane_0_which_asks_for_a_session(void) {
    open_lane(1);
    set_ways(THERE, 0, 0, 0);
    give_packet(address_of(THERE));
    sender_run();
    CHECK_EQUAL(n_crossed(), 1);
    CHECK_EQUAL(sender.n_events, 0);
    sender_close();
    open_lane(0);
    set_ways(THERE, 0, 0, 0);
    give_packet(address_of(THERE));
    sender_run();
    CHECK_EQUAL(n_crossed(), 0);
    CHECK_EQUAL(sender.n_events, 1);
    CHECK_EQUAL(sender.events[0].kind, EVENT_NO_SESSION);
    sender_close();
}

static void what_has_crossed_is_sealed_and_does_not_cross_again(void) {
    open_lane(0);
    set_ways(HERE, 1, 1, 0); /* as where the other lane has heard of this one too late */
    put_packet(HERE);
    run();
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(opened.record->slot, HERE);
    CHECK(opened.length >= PACKET);
    CHECK_EQUAL(n_crossed(), 0);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    put_packet(THERE); /* without a link here */
    run();
    CHECK_EQUAL(n_crossed(), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    sender_close();
}

static void what_has_crossed_waits_where_the_dialling_side_has_no_session(void) {
    const struct udp_address endpoint = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {192, 0, 2}};
    uint8_t frame[VNET_LENGTH + PACKET] = {0};
    sender_open_lane(0);
    peer_write_endpoint(&sender.lane.peers->by_link_reader[0], &endpoint);
    sender_allow_ten(0);
    loop_hold_without_session(sender.worker.loop);
    ipv4_make(frame + VNET_LENGTH, PACKET, US, address_of(HERE));
    put(0, frame, sizeof frame);
    run();
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_attach(0, sealed_format(MODE_TUN, true));
    set_key(0, AEAD_AES_256_GCM, 0);
    run();
    CHECK(open_next(AEAD_AES_256_GCM));
    sender_close();
}

static void by_flow_every_lane_has_some_flows_and_a_flow_has_one_lane(void) {
    open_lane(0);
    open_peer(BOTH);
    set_ways(BOTH, 2, 0, 1);
    unsigned n_there[2];
    for (int round = 0; round < 2; round++) {
        for (unsigned flow = 0; flow < N_FLOWS; flow++)
            give_packet(address_of(BOTH) + (flow << 8));
        sender_run();
        n_there[round] = n_crossed();
    }
    CHECK_EQUAL(n_there[0], n_there[1]);
    CHECK(n_there[0] > N_FLOWS / 4 && n_there[0] < N_FLOWS * 3 / 4);
    set_ways(BOTH, 2, 1, 0); /* of what its own lane carries nothing crosses */
    give_packet(address_of(BOTH));
    sender_run();
    CHECK_EQUAL(n_crossed(), 0);
    sender_close();
}

static void what_finds_the_ring_full_is_dropped_and_nothing_waits(void) {
    static struct frame frame;
    struct random random = {7};
    uint64_t n_there = 0;
    open_lane(0);
    frame_make(&frame, &random, MODE_TUN, FRAME_TCP4_SUPER, 30000);
    uint8_t *packet = frame.bytes + VNET_LENGTH;
    memcpy(packet + 16, (const uint8_t[4]){10, THERE, 0, 5}, 4);
    for (int i = 0; i < 12; i++) {
        give_frame(frame.bytes, frame.length);
        sender_run();
    }
    give_packet(address_of(HERE));
    sender_run();
    CHECK(open_next(AEAD_AES_256_GCM));
    for (const struct ring_view *view; (view = next_crossed()) != NULL;)
        n_there += view->n_packets;
    uint64_t n_dropped = sender_dropped(DROP_tun_reader_lane_full);
    CHECK(n_dropped > 0 && n_there > 0);
    CHECK_EQUAL(n_there + n_dropped, 12 * (uint64_t)frame.n_packets);
    CHECK_EQUAL(sender_counter(COUNTER_packets), n_there + n_dropped + 1);
    CHECK_EQUAL(sender_counter(COUNTER_crossed), n_there);
    sender_close();
}

static void impossible_records_of_another_lane_are_dropped_and_the_next_one_passes(void) {
    static const uint8_t bytes[VNET_LENGTH + PACKET];
    open_lane(0);
    put(N_PEER_SLOTS, bytes, sizeof bytes);
    put(UINT32_MAX, bytes, sizeof bytes);
    put(HERE, bytes, VNET_LENGTH);
    put(HERE, bytes, 1);
    put_packet(HERE);
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_ring_corrupt), 4);
    CHECK(open_next(AEAD_AES_256_GCM));
    put(HERE, bytes, sizeof bytes); /* neither IPv4 nor IPv6 */
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_not_ip), 1);
    put(HERE, bytes, sizeof bytes)->space = 7;
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_ring_corrupt), 5);
    CHECK_EQUAL(ring_used_bytes(sender.lane.from_lane), 0);
    sender_close();
}

static void a_successor_counts_what_has_crossed_before_it(void) {
    open_lane(0);
    for (int i = 0; i < 3; i++)
        give_packet(address_of(THERE));
    sender_run();
    worker_close(&sender.worker);
    worker_open(&sender.worker, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &sender.lane,
                sender.device[0]);
    CHECK_EQUAL(sender_counter(COUNTER_crossed), 3);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

/* Killed between publishing what it had sealed of two of three and releasing them. */
static void what_was_sealed_of_another_lane_is_not_sealed_again_by_a_successor(void) {
    open_lane(0);
    for (int i = 0; i < 3; i++)
        put_packet(HERE);
    struct ring *ring = sender.lane.from_lane;
    ring_publish(ring, &sender.lane.ring_stats);
    uint64_t each = atomic_load(&ring->shared->head) / 3;
    ring_begin(ring, 2 * each);
    worker_close(&sender.worker);
    worker_open(&sender.worker, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &sender.lane,
                sender.device[0]);
    open_peer(HERE);
    sender_run();
    CHECK(open_next(AEAD_AES_256_GCM));
    CHECK(!open_next(AEAD_AES_256_GCM));
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    CHECK_EQUAL(atomic_load(&ring->shared->begun), 3 * each);
    sender_close();
}

static void lanes_that_there_are_not_are_refused(void) {
    open_lane(0);
    CHECK_EQUAL(loop_set_ways(sender.worker.loop, HERE, (const uint8_t[1]){2}, 1, 0), -EINVAL);
    CHECK_EQUAL(loop_set_ways(sender.worker.loop, HERE, (const uint8_t[3]){0, 1, 0}, 3, 0),
                -EINVAL);
    CHECK_EQUAL(loop_set_ways(sender.worker.loop, N_PEER_SLOTS, NULL, 0, 0), -EINVAL);
    sender_close();
    sender_open(MODE_TUN);
    CHECK_EQUAL(loop_set_ways(sender.worker.loop, HERE, (const uint8_t[1]){0}, 1, 0), -EINVAL);
    sender_close();
}

int main(void) {
    RUN(what_is_for_a_peer_of_another_lane_crosses_as_the_device_gave_it);
    RUN(a_peer_without_a_lane_is_for_lane_0_which_asks_for_a_session);
    RUN(what_has_crossed_is_sealed_and_does_not_cross_again);
    RUN(what_has_crossed_waits_where_the_dialling_side_has_no_session);
    RUN(by_flow_every_lane_has_some_flows_and_a_flow_has_one_lane);
    RUN(what_finds_the_ring_full_is_dropped_and_nothing_waits);
    RUN(impossible_records_of_another_lane_are_dropped_and_the_next_one_passes);
    RUN(a_successor_counts_what_has_crossed_before_it);
    RUN(what_was_sealed_of_another_lane_is_not_sealed_again_by_a_successor);
    RUN(lanes_that_there_are_not_are_refused);
    return EXIT_SUCCESS;
}
