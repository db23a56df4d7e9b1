/* The tun-reader of a TAP device with many peers: which peers a frame of the device goes to, and
 * which one of another peer's. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "worker/key_commands.h"
#include "frames.h"
#include "loop/switching.h"
#include "packet/mac_key.h"
#include "sender.h"

enum { FRAME = 60, N_PEERS = 3 };

static const unsigned slots[N_PEERS] = {2, 5, N_PEER_SLOTS - 1};
static const uint8_t our_host[6] = {2, 0, 0, 0, 0, 1}, unknown[6] = {2, 0, 0, 0, 0, 9},
                     broadcast[6] = {255, 255, 255, 255, 255, 255};
static struct frame frame;

static bool always(void *context) {
    (void)context;
    return true;
}

static void open_switch(void) {
    sender_open_switch();
    for (int i = 0; i < N_PEERS; i++) {
        const uint8_t address[6] = {2, 0, 0, 0, 1, (uint8_t)i};
        sender_attach(slots[i], sealed_format(MODE_TAP, i != 1));
        set_key(slots[i], AEAD_AES_256_GCM, 0);
        mac_table_learn(sender.lane.macs, slots[i], mac_key_of(address, 0), clock_now_ns(), always,
                        NULL);
    }
}

static void make_frame(uint8_t *bytes, const uint8_t *destination, const uint8_t *source) {
    memset(bytes, 0, FRAME);
    memcpy(bytes, destination, MAC_SIZE);
    memcpy(bytes + MAC_SOURCE_OFFSET, source, MAC_SIZE);
}

static void give_to(const uint8_t *destination) {
    uint8_t bytes[FRAME];
    make_frame(bytes, destination, our_host);
    give(bytes, FRAME);
}

/* A record of the hairpin as the link-reader makes it; not published. */
static struct ring_record *put(uint32_t from, uint32_t to, const uint8_t *vnet, size_t length) {
    struct ring *hairpin = sender.lane.hairpin;
    struct ring_record *record = ring_reserve(hairpin, sizeof *record + length + RING_RECORD_ALIGN);
    CHECK(record != NULL);
    *record = (struct ring_record){.offset = sizeof *record,
                                   .length = (uint32_t)length,
                                   .n_packets = 1,
                                   .slot = from,
                                   .link_id = to};
    memcpy(record + 1, vnet, length);
    ring_commit(hairpin, record);
    return record;
}

static void put_frame(uint32_t from, uint32_t to) {
    uint8_t bytes[VNET_LENGTH + FRAME] = {0};
    make_frame(bytes + VNET_LENGTH, broadcast, unknown);
    put(from, to, bytes, sizeof bytes);
}

static void run(void) {
    ring_publish(sender.lane.hairpin, &sender.lane.ring_stats);
    sender_run();
}

/* The slots that the next records are for, as bits of their places in `slots`. */
static unsigned opened_for(void) {
    unsigned found = 0;
    while (open_next(AEAD_AES_256_GCM)) {
        unsigned i = 0;
        while (slots[i] != opened.record->slot)
            CHECK(++i < N_PEERS);
        CHECK((found & 1u << i) == 0);
        CHECK_EQUAL(opened.content[0], MESSAGE_ETHERNET);
        CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + FRAME);
        found |= 1u << i;
    }
    return found;
}

static void a_frame_of_the_device_goes_to_the_peer_that_has_its_address_else_to_all(void) {
    open_switch();
    for (uint8_t i = 0; i < N_PEERS; i++) {
        give_to((const uint8_t[6]){2, 0, 0, 0, 1, i});
        sender_run();
        CHECK_EQUAL(opened_for(), 1u << i);
    }
    give_to(broadcast);
    sender_run();
    CHECK_EQUAL(opened_for(), 7);
    give_to(unknown);
    sender_run();
    CHECK_EQUAL(opened_for(), 7);
    CHECK_EQUAL(mac_table_find(sender.lane.macs, mac_key_of(our_host, 0), clock_now_ns()),
                MAC_OWNER_LOCAL);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 9); /* a copy is a packet */
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void only_peers_with_a_session_get_a_copy_and_without_any_it_is_dropped(void) {
    open_switch();
    loop_forget_sending_key(sender.worker.loop, slots[1]);
    give_to(broadcast);
    sender_run();
    CHECK_EQUAL(opened_for(), 5);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    for (int i = 0; i < N_PEERS; i++)
        loop_detach_link(sender.worker.loop, slots[i]);
    give_to(broadcast);
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3);
    sender_close();
}

/* One that was never heard has a configured endpoint; one that left an hour ago costs nothing. */
static void peers_on_udp_that_may_answer_are_asked_for_a_session(void) {
    enum { CONFIGURED = 9, LATELY = 10, GONE = 11 };
    const struct udp_address endpoint = {.family = UDP_ADDRESS_IPV4, .port = 1};
    const uint64_t hour_ns = 3600000000000, now_ns = clock_boottime_ns();
    sender_open_switch();
    for (unsigned slot = CONFIGURED; slot <= GONE; slot++)
        peer_write_endpoint(&sender.lane.peers->by_link_reader[slot], &endpoint);
    peer_set(&sender.lane.peers->by_link_reader[LATELY].received_ns, now_ns > 1 ? now_ns - 1 : 1);
    peer_set(&sender.lane.peers->by_link_reader[GONE].received_ns,
             now_ns > hour_ns ? now_ns - hour_ns : 1);
    give_to(broadcast);
    sender_run();
    bool is_long_up = now_ns > hour_ns; /* else it was not an hour ago */
    CHECK_EQUAL(sender.n_events, is_long_up ? 2 : 3);
    for (size_t i = 0; i < sender.n_events; i++) {
        CHECK_EQUAL(sender.events[i].kind, EVENT_NO_SESSION);
        CHECK_EQUAL(sender.events[i].slot, CONFIGURED + i);
    }
    CHECK_EQUAL(opened_for(), 0);
    sender_close();
}

static void what_waits_for_a_peer_is_not_the_next_ones_in_its_slot(void) {
    const struct udp_address endpoint = {.family = UDP_ADDRESS_IPV4, .port = 1};
    open_switch();
    loop_forget_sending_key(sender.worker.loop, slots[0]);
    peer_write_endpoint(&sender.lane.peers->by_link_reader[slots[0]], &endpoint);
    give_to((const uint8_t[6]){2, 0, 0, 0, 1, 0});
    sender_run();
    CHECK_EQUAL(sender.n_events, 1);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    loop_forget_ips(sender.worker.loop, slots[0]);
    set_key(slots[0], AEAD_AES_256_GCM, 0);
    sender_run();
    CHECK_EQUAL(opened_for(), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    sender_close();
}

static void a_peers_frame_goes_to_one_other_or_to_all_others_and_never_back(void) {
    open_switch();
    put_frame(slots[0], slots[2]);
    run();
    CHECK_EQUAL(opened_for(), 4);
    put_frame(slots[0], HAIRPIN_TO_ALL);
    run();
    CHECK_EQUAL(opened_for(), 6);
    put_frame(slots[2], HAIRPIN_TO_ALL);
    run();
    CHECK_EQUAL(opened_for(), 3);
    CHECK_EQUAL(ring_used_bytes(sender.lane.hairpin), 0);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void of_all_peers_the_ones_that_are_gone_cost_nothing(void) {
    open_switch();
    loop_detach_link(sender.worker.loop, slots[1]);
    loop_detach_link(sender.worker.loop, slots[2]);
    put_frame(slots[0], HAIRPIN_TO_ALL); /* it was on the device */
    put_frame(slots[0], slots[1]);
    run();
    CHECK_EQUAL(opened_for(), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(sender_dropped_in_all(), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    sender_close();
}

/* slots[1] takes none: it gets the segments. */
static void a_super_packet_goes_whole_to_those_that_take_it_and_split_to_the_others(void) {
    struct random random = {3};
    size_t n_whole = 0, n_segments = 0;
    open_switch();
    frame_make(&frame, &random, MODE_TAP, FRAME_TCP4_SUPER, 9000);
    put(7, HAIRPIN_TO_ALL, frame.bytes, frame.length);
    run();
    bool corrupt = false;
    const struct ring_view *record;
    while ((record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL) {
        n_whole += record->n_packets == frame.n_packets && record->slot != slots[1];
        n_segments += record->slot == slots[1] ? record->n_packets : 0;
    }
    CHECK_EQUAL(n_whole, 2);
    CHECK_EQUAL(n_segments, frame.n_packets);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3 * frame.n_packets);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

/* Without opening it, which takes the time in which the limit lets more pass. */
static void skip_all(void) {
    bool corrupt = false;
    while (ring_peek(sender.lane.ring, &cursor, &corrupt) != NULL)
        ;
}

static void the_devices_storm_is_limited_where_it_has_several_ways(void) {
    enum { STORM = 2 * FLOODS_BURST };
    open_switch();
    loop_detach_link(sender.worker.loop, slots[2]);
    for (int n = 0; n < STORM; n++) {
        give_to(broadcast);
        sender_run();
        skip_all();
        sender_release();
    }
    uint64_t n_dropped = sender_dropped(DROP_tun_reader_flood_limit);
    CHECK(n_dropped > 0 && n_dropped <= STORM - FLOODS_BURST);
    loop_detach_link(sender.worker.loop, slots[1]);
    give_to(broadcast); /* one way: no copy */
    sender_run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_flood_limit), n_dropped);
    CHECK_EQUAL(opened_for(), 1);
    sender_close();
}

static void one_peers_floods_are_limited_by_their_copies_and_anothers_are_not(void) {
    enum { STORM = COPIES_BURST }; /* two copies each */
    open_switch();
    for (int n = 0; n < STORM; n++) {
        put_frame(slots[0], HAIRPIN_TO_ALL);
        run();
        skip_all();
        sender_release();
    }
    uint64_t n_dropped = sender_dropped(DROP_tun_reader_flood_limit);
    CHECK(n_dropped > 0 && n_dropped <= STORM - COPIES_BURST / 2);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 2 * (STORM - n_dropped) + n_dropped);
    put_frame(slots[1], HAIRPIN_TO_ALL);
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_flood_limit), n_dropped);
    CHECK_EQUAL(opened_for(), 1 << 0 | 1 << 2);
    sender_close();
}

static void a_flood_goes_on_where_the_ring_was_full(void) {
    struct random random = {3};
    size_t n_seen = 0;
    enum { FLOODS = 30 };
    open_switch();
    frame_make(&frame, &random, MODE_TAP, FRAME_TCP4_SUPER, 30000);
    for (int n = 0; n < FLOODS; n++)
        put(7, HAIRPIN_TO_ALL, frame.bytes, frame.length);
    for (int round = 0; round < 50; round++) {
        bool corrupt = false;
        const struct ring_view *record;
        run();
        while ((record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL)
            n_seen += record->n_packets;
        sender_release();
    }
    CHECK_EQUAL(n_seen, 3 * FLOODS * frame.n_packets);
    sender_close();
}

static void impossible_records_of_the_hairpin_are_dropped_and_the_next_one_passes(void) {
    static const uint8_t bytes[VNET_LENGTH + FRAME];
    open_switch();
    put(slots[0], slots[0], bytes, sizeof bytes); /* back to its sender */
    put(slots[0], N_PEER_SLOTS, bytes, sizeof bytes);
    put(N_PEER_SLOTS, slots[1], bytes, sizeof bytes);
    put(UINT32_MAX, HAIRPIN_TO_ALL, bytes, sizeof bytes);
    put(slots[0], slots[1], bytes, VNET_LENGTH);
    put(slots[0], slots[1], bytes, VNET_LENGTH + 13);
    put(slots[0], slots[1], bytes, 1);
    put_frame(slots[0], slots[1]);
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_ring_corrupt), 7);
    CHECK_EQUAL(opened_for(), 2);
    put(slots[0], slots[1], bytes, sizeof bytes)->space = 7;
    run();
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_ring_corrupt), 8);
    CHECK_EQUAL(ring_used_bytes(sender.lane.hairpin), 0);
    sender_close();
}

int main(void) {
    RUN(a_frame_of_the_device_goes_to_the_peer_that_has_its_address_else_to_all);
    RUN(only_peers_with_a_session_get_a_copy_and_without_any_it_is_dropped);
    RUN(peers_on_udp_that_may_answer_are_asked_for_a_session);
    RUN(what_waits_for_a_peer_is_not_the_next_ones_in_its_slot);
    RUN(a_peers_frame_goes_to_one_other_or_to_all_others_and_never_back);
    RUN(of_all_peers_the_ones_that_are_gone_cost_nothing);
    RUN(a_super_packet_goes_whole_to_those_that_take_it_and_split_to_the_others);
    RUN(the_devices_storm_is_limited_where_it_has_several_ways);
    RUN(one_peers_floods_are_limited_by_their_copies_and_anothers_are_not);
    RUN(a_flood_goes_on_where_the_ring_was_full);
    RUN(impossible_records_of_the_hairpin_are_dropped_and_the_next_one_passes);
    return EXIT_SUCCESS;
}
