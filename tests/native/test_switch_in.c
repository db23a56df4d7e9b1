/* The link-reader of a TAP device with many peers: which frames of a peer go to the device, which
 * to other peers, and which nowhere. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "inbound/switch_in.h"
#include "loop/switching.h"
#include "packet/mac_key.h"
#include "formats.h"
#include "sealed_link.h"
#include "sockets.h"

enum { FRAME = 60, LONG_FRAME = 40000, N_LONG = 34 /* more than the hairpin holds */ };

static const uint8_t peers_host[6] = {2, 0, 0, 0, 0, 7}, others_host[6] = {2, 0, 0, 0, 0, 8},
                     our_host[6] = {2, 0, 0, 0, 0, 1}, unknown[6] = {2, 0, 0, 0, 0, 9},
                     broadcast[6] = {255, 255, 255, 255, 255, 255};
static uint64_t counter;

static bool always(void *context) {
    (void)context;
    return true;
}

static void know(unsigned owner, const uint8_t *address) {
    mac_table_learn(reader.lane.macs, owner, mac_key_of(address, 0), clock_now_ns(), always, NULL);
}

static void open_switch(void) {
    reader_open_switch(AEAD_AES_256_GCM);
    counter = 0;
    know(OTHER_SLOT, others_host);
    know(MAC_OWNER_LOCAL, our_host);
}

static void send_frame(const uint8_t *destination, const uint8_t *source) {
    uint8_t content[MESSAGE_TYPE_LENGTH + FRAME] = {MESSAGE_ETHERNET};
    memcpy(content + MESSAGE_TYPE_LENGTH, destination, MAC_SIZE);
    memcpy(content + MESSAGE_TYPE_LENGTH + MAC_SOURCE_OFFSET, source, MAC_SIZE);
    send_content(counter++, content, sizeof content);
}

static uint64_t counted(enum stats_counter which) {
    return stats_read_counter(reader.lane.stats, ROLE_link_reader, which);
}

static uint64_t dropped(enum stats_drop drop) {
    return stats_read_drop(reader.lane.stats, drop);
}

/* What is in the hairpin; each is as it came, and for `to`. */
static size_t count_hairpin(uint32_t to) {
    struct ring *ring = reader.lane.hairpin;
    uint64_t at = ring_first(ring);
    const struct ring_view *record;
    bool corrupt = false;
    size_t n = 0;
    ring->peer = at;
    for (; (record = ring_peek(ring, &at, &corrupt)) != NULL; n++) {
        CHECK_EQUAL(record->slot, SLOT);
        CHECK_EQUAL(record->link_id, to);
        CHECK_EQUAL(record->length, VNET_LENGTH + FRAME);
        CHECK_EQUAL(record->n_packets, 1);
        CHECK(is_zero(record->payload, VNET_LENGTH));
        CHECK_EQUAL(memcmp(record->payload + VNET_LENGTH + MAC_SOURCE_OFFSET, peers_host, 6), 0);
    }
    CHECK(!corrupt);
    return n;
}

static void check_balance(void) {
    CHECK_EQUAL(counted(COUNTER_packets), lane_count_records(&reader.lane) +
                                              counted(COUNTER_switched) +
                                              lane_dropped_in_all(&reader.lane));
}

static void a_frame_goes_where_its_address_is(void) {
    static const struct {
        const uint8_t *destination;
        size_t n_device, n_hairpin;
        uint32_t to;
    } cases[] = {{our_host, 1, 0, 0},
                 {others_host, 0, 1, OTHER_SLOT},
                 {unknown, 1, 1, HAIRPIN_TO_ALL},
                 {broadcast, 1, 1, HAIRPIN_TO_ALL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_switch();
        send_frame(cases[i].destination, peers_host);
        reader_run_to_the_end();
        CHECK_EQUAL(lane_count_records(&reader.lane), cases[i].n_device);
        CHECK_EQUAL(count_hairpin(cases[i].to), cases[i].n_hairpin);
        CHECK_EQUAL(counted(COUNTER_switched), cases[i].n_hairpin);
        CHECK_EQUAL(lane_dropped_in_all(&reader.lane), 0);
        CHECK_EQUAL(field(SLOT, "receive_packets"), 1);
        CHECK_EQUAL(mac_table_find(reader.lane.macs, mac_key_of(peers_host, 0), clock_now_ns()),
                    SLOT);
        check_balance();
        reader_close();
    }
}

static void what_is_behind_the_sender_itself_does_not_come_back(void) {
    open_switch();
    know(SLOT, unknown);
    send_frame(unknown, peers_host);
    reader_run_to_the_end();
    CHECK_EQUAL(dropped(DROP_link_reader_same_peer), 1);
    CHECK_EQUAL(lane_count_records(&reader.lane) + count_hairpin(0), 0);
    check_balance();
    reader_close();
}

static void no_peer_has_this_hosts_address_nor_that_of_a_group(void) {
    open_switch();
    mac_table_set_own(reader.lane.macs, 0, unknown);
    send_frame(broadcast, unknown);
    send_frame(broadcast, broadcast);
    send_frame(unknown, peers_host); /* to this host it goes */
    reader_run_to_the_end();
    CHECK_EQUAL(dropped(DROP_link_reader_bad_source), 2);
    CHECK_EQUAL(lane_count_records(&reader.lane), 1);
    CHECK_EQUAL(count_hairpin(0), 0);
    check_balance();
    reader_close();
}

/* Spanning tree, LLDP, the last one; and the first that bridges relay. */
static void what_is_for_bridges_goes_to_this_host_alone(void) {
    static const struct {
        uint8_t address[6];
        bool is_relayed;
    } cases[] = {{{0x01, 0x80, 0xc2, 0, 0, 0x00}, false}, {{0x01, 0x80, 0xc2, 0, 0, 0x0e}, false},
                 {{0x01, 0x80, 0xc2, 0, 0, 0x0f}, false}, {{0x01, 0x80, 0xc2, 0, 0, 0x10}, true},
                 {{0x01, 0x80, 0xc2, 0, 1, 0x00}, true},  {{0x01, 0x80, 0xc3, 0, 0, 0x00}, true},
                 {{0x01, 0x00, 0x5e, 0, 0, 0x01}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_switch();
        send_frame(cases[i].address, peers_host);
        reader_run_to_the_end();
        CHECK_EQUAL(lane_count_records(&reader.lane), 1);
        CHECK_EQUAL(count_hairpin(HAIRPIN_TO_ALL), cases[i].is_relayed);
        CHECK_EQUAL(dropped(DROP_link_reader_reserved_group), !cases[i].is_relayed);
        CHECK_EQUAL(lane_dropped_in_all(&reader.lane), !cases[i].is_relayed);
        check_balance();
        reader_close();
    }
}

static void a_storm_goes_to_the_device_but_beyond_the_limit_to_no_other_peer(void) {
    enum { STORM = FLOODS_BURST + 500 };
    open_switch();
    for (int i = 0; i < STORM; i++)
        send_frame(broadcast, peers_host);
    reader_run_to_the_end();
    CHECK_EQUAL(lane_count_records(&reader.lane), STORM);
    CHECK(count_hairpin(HAIRPIN_TO_ALL) >= FLOODS_BURST);
    CHECK(dropped(DROP_link_reader_flood_limit) > 0);
    CHECK_EQUAL(count_hairpin(HAIRPIN_TO_ALL) + dropped(DROP_link_reader_flood_limit), STORM);
    check_balance();
    reader_close();
}

static void send_long_frame(const uint8_t *destination, const uint8_t *source) {
    static uint8_t content[MESSAGE_TYPE_LENGTH + LONG_FRAME] = {MESSAGE_ETHERNET};
    memcpy(content + MESSAGE_TYPE_LENGTH, destination, MAC_SIZE);
    memcpy(content + MESSAGE_TYPE_LENGTH + MAC_SOURCE_OFFSET, source, MAC_SIZE);
    send_content(counter++, content, sizeof content);
}

static uint64_t count_waits(void) {
    return stats_read_call(reader.lane.stats, ROLE_link_reader, CALL_futex_wait);
}

/* The other peer is on a stream of its own. */
static void attach_other(int stream[2]) {
    struct link_format format = sealed_format(MODE_TAP, true);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    CHECK_EQUAL(loop_attach_link(reader.loop, OTHER_SLOT, 2, stream[0], &format), 0);
}

static void a_full_hairpin_drops_and_holds_nothing_up(void) {
    for (int is_on_stream = 0; is_on_stream < 2; is_on_stream++) {
        int stream[2];
        open_switch();
        if (is_on_stream)
            attach_other(stream);
        for (int n = 0; n < N_LONG; n++)
            send_long_frame(others_host, peers_host);
        send_frame(our_host, peers_host);
        reader_run_to_the_end();
        uint64_t n_dropped = dropped(DROP_link_reader_hairpin_full);
        CHECK(n_dropped > 0);
        CHECK_EQUAL(n_dropped, lane_dropped_in_all(&reader.lane));
        CHECK_EQUAL(lane_count_records(&reader.lane), 1);
        CHECK(is_on_stream ? count_waits() < n_dropped : count_waits() == 0);
        check_balance();
        reader_close();
        if (is_on_stream)
            pair_close(stream);
    }
}

/* The tun-reader, from when the link-reader sleeps. */
static void *take_all(void *context) {
    struct ring *ring = reader.lane.hairpin;
    atomic_bool *is_over = context;
    uint64_t at = ring_first(ring);
    bool corrupt = false;
    while (!atomic_load(is_over)) {
        if (atomic_load(&ring->shared->producer.asleep) == WAITER_AWAKE)
            continue;
        while (ring_peek(ring, &at, &corrupt) != NULL)
            ;
        ring_release(ring, at, &reader.lane.ring_stats);
    }
    return NULL;
}

/* Whether nothing was dropped: it does not wait long for a thread that this machine does not run. */
static bool waits_for_room(void) {
    pthread_t thread;
    atomic_bool is_over = false;
    int stream[2];
    open_switch();
    attach_other(stream);
    send_frame(others_host, peers_host); /* the first one that crosses: those behind it wait */
    CHECK_EQUAL(pthread_create(&thread, NULL, take_all, &is_over), 0);
    for (int n = 0; n < N_LONG; n++)
        send_long_frame(others_host, peers_host);
    reader_run_to_the_end();
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    check_balance();
    bool is_whole = count_waits() > 0 && lane_dropped_in_all(&reader.lane) == 0;
    reader_close();
    pair_close(stream);
    return is_whole;
}

static void a_stream_waits_for_room_in_the_hairpin_and_loses_nothing(void) {
    int n_tries = 1;
    while (!waits_for_room())
        CHECK(++n_tries <= 20);
}

static void addresses_of_another_move_until_the_limit_and_then_are_held(void) {
    enum { STOLEN = MOVES_BURST + 200 };
    open_switch();
    for (uint8_t i = 0; i < 2; i++)
        for (int j = 0; j < STOLEN / 2; j++)
            know(OTHER_SLOT, (const uint8_t[6]){2, 1, i, 0, (uint8_t)(j >> 8), (uint8_t)j});
    for (uint8_t i = 0; i < 2; i++)
        for (int j = 0; j < STOLEN / 2; j++)
            send_frame(our_host, (const uint8_t[6]){2, 1, i, 0, (uint8_t)(j >> 8), (uint8_t)j});
    reader_run_to_the_end();
    CHECK(counted(COUNTER_mac_moves) >= MOVES_BURST);
    CHECK_EQUAL(counted(COUNTER_mac_moves) + dropped(DROP_link_reader_mac_moves), STOLEN);
    CHECK_EQUAL(lane_count_records(&reader.lane), counted(COUNTER_mac_moves));
    check_balance();
    reader_close();
}

static void a_removed_peers_addresses_are_forgotten(void) {
    open_switch();
    loop_forget_ips(reader.loop, OTHER_SLOT);
    loop_forget_ips(reader.loop, PEER_SLOT_NONE); /* of peers without a slot: none */
    CHECK_EQUAL(mac_table_find(reader.lane.macs, mac_key_of(others_host, 0), clock_now_ns()),
                MAC_OWNER_UNKNOWN);
    CHECK_EQUAL(mac_table_find(reader.lane.macs, mac_key_of(our_host, 0), clock_now_ns()),
                MAC_OWNER_LOCAL);
    reader_run_to_the_end();
    reader_close();
}

static void a_successor_counts_nothing_that_went_to_other_peers_as_lost(void) {
    struct worker_thread successor;
    open_switch();
    send_frame(broadcast, peers_host);
    send_frame(others_host, peers_host);
    reader_run_to_the_end();
    worker_open(&successor, ROLE_link_reader, WIRE_WIREGUARD, MODE_TAP, &reader.lane, -1);
    CHECK_EQUAL(lane_dropped_in_all(&reader.lane), 0);
    CHECK_EQUAL(counted(COUNTER_switched), 2);
    CHECK_EQUAL(mac_table_find(reader.lane.macs, mac_key_of(peers_host, 0), clock_now_ns()), SLOT);
    check_balance();
    worker_close(&successor);
    reader_close();
}

int main(void) {
    RUN(a_frame_goes_where_its_address_is);
    RUN(what_is_behind_the_sender_itself_does_not_come_back);
    RUN(no_peer_has_this_hosts_address_nor_that_of_a_group);
    RUN(what_is_for_bridges_goes_to_this_host_alone);
    RUN(a_storm_goes_to_the_device_but_beyond_the_limit_to_no_other_peer);
    RUN(a_full_hairpin_drops_and_holds_nothing_up);
    RUN(a_stream_waits_for_room_in_the_hairpin_and_loses_nothing);
    RUN(addresses_of_another_move_until_the_limit_and_then_are_held);
    RUN(a_removed_peers_addresses_are_forgotten);
    RUN(a_successor_counts_nothing_that_went_to_other_peers_as_lost);
    return EXIT_SUCCESS;
}
