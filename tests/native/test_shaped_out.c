/* The tun-reader with peers that have a rate limit: what waits goes on by itself and in order, and
 * what is dropped is counted on the peer's name. */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "outbound/flooding.h"
#include "packet/mac_key.h"
#include "check.h"
#include "sender.h"

enum { LIMITED = 1, FREE = 2, A_SECOND = 1000 };

static void open_two(void) {
    const uint8_t free_peer[4] = {11};
    sender_open(MODE_TUN);
    for (unsigned slot = LIMITED; slot <= FREE; slot++) {
        sender_attach(slot, sealed_format(MODE_TUN, true));
        set_key(slot, AEAD_CHACHA20_POLY1305, 0);
    }
    sender_allow_ten(LIMITED);
    sender_allow(FREE, free_peer, 4, 8);
}

static void limit(uint64_t rate, bool is_cut_off) {
    CHECK_EQUAL(loop_set_rate_limit(sender.worker.loop, LIMITED, rate, 0, is_cut_off), 0);
}

static void pass_ms(unsigned n) {
    nanosleep(&(struct timespec){n / 1000, n % 1000 * 1000000}, NULL);
}

static size_t count_sent(unsigned slot) {
    size_t n = 0;
    for (cursor = ring_first(sender.lane.ring); open_next(AEAD_CHACHA20_POLY1305);)
        n += opened.record->slot == slot;
    return n;
}

static uint64_t now_ms(void) {
    return clock_now_ns() / 1000000;
}

/* How long a worker is kept from running only adds to it. */
static void what_is_above_the_rate_waits_for_its_time(void) {
    open_two();
    uint64_t start_ms = now_ms();
    limit(PACKET * 5, false); /* five packets a second, and a burst of 20 ms */
    for (int i = 0; i < 3; i++)
        give_packet(0x0a000002);
    give_packet(0x0b000002);
    sender_run();
    CHECK_EQUAL(count_sent(FREE), 1); /* the other peer waits for nothing */
    while (count_sent(LIMITED) < 3 && now_ms() < start_ms + 20 * A_SECOND) {
        pass_ms(20);
        sender_run();
    }
    CHECK_EQUAL(count_sent(LIMITED), 3);
    CHECK(now_ms() >= start_ms + 2 * 200 - 2 * 20);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 4);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void the_loop_wakes_up_by_itself_for_what_waits(void) {
    open_two();
    limit(PACKET * 20, false);
    worker_start(&sender.worker);
    for (int i = 0; i < 5; i++)
        give_packet(0x0a000002);
    for (int i = 0; i < 100 && lane_count_records(&sender.lane) < 5; i++)
        pass_ms(50);
    CHECK_EQUAL(worker_stop(&sender.worker), LOOP_DOORBELL);
    CHECK_EQUAL(count_sent(LIMITED), 5);
    sender_close();
}

static void what_finds_the_queue_full_is_dropped_and_counted(void) {
    open_two();
    limit(10, false);
    for (int i = 0; i < 300; i++) {
        give_packet(0x0a000002);
        sender_run();
    }
    uint64_t n_dropped = sender_dropped(DROP_tun_reader_rate_limit);
    CHECK(n_dropped > 100 && n_dropped < 300);
    CHECK_EQUAL(sender_field(LIMITED, "limited_outbound_packets"), n_dropped);
    CHECK_EQUAL(sender_field(FREE, "limited_outbound_packets"), 0);
    limit(0, false); /* the rest goes on at once */
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED) + n_dropped, 300);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 300);
    sender_close();
}

static void a_peer_that_is_cut_off_gets_nothing_but_keepalives(void) {
    open_two();
    limit(0, true);
    for (int i = 0; i < 3; i++)
        give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_quota), 3);
    CHECK_EQUAL(sender_field(LIMITED, "limited_outbound_packets"), 3);
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, LIMITED), 0);
    limit(0, false);
    give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 2);
    sender_close();
}

static void what_waits_for_a_peer_whose_session_ends_is_not_sent(void) {
    open_two();
    limit(10, false);
    for (int i = 0; i < 3; i++)
        give_packet(0x0a000002);
    sender_run();
    loop_detach_link(sender.worker.loop, LIMITED);
    limit(0, false); /* what waits goes on at once */
    sender_run();
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 1);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 2);
    sender_close();
}

/* The next one has a session in the slot before the worker runs again. */
static void what_waits_for_a_peer_that_is_removed_is_not_the_next_ones_in_its_slot(void) {
    open_two();
    limit(10, false);
    for (int i = 0; i < 3; i++)
        give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 1);
    loop_forget_ips(sender.worker.loop, LIMITED);
    limit(0, false);
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 1);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_rate_limit), 2);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3);
    sender_allow_ten(LIMITED);
    give_packet(0x0a000002);
    sender_run();
    CHECK_EQUAL(count_sent(LIMITED), 2);
    sender_close();
}

/* -- on a TAP device with many peers ----------------------------------------------------------- */

enum { WAITING = 1000, N_WAITING = 69, N_GONE = 35, FLOODED = 1500 };

static const uint8_t our_host[MAC_SIZE] = {2, 0, 0, 0, 0, 1}, theirs[MAC_SIZE] = {2, 0, 0, 0, 0, 2};

static bool always(void *context) {
    (void)context;
    return true;
}

static void make_frame(uint8_t *bytes, size_t length, const uint8_t *destination, uint8_t fill) {
    memset(bytes, fill, length);
    memcpy(bytes, destination, MAC_SIZE);
    memcpy(bytes + MAC_SOURCE_OFFSET, our_host, MAC_SIZE);
}

/* Frames for the limited peer, each filled with its number, that nearly fill all that its queue may have. */
static void fill_queue_of(struct tun_reader *reader) {
    uint8_t bytes[WAITING];
    reader->shaping.pool.max = 0;
    reader->shaping.shapers[LIMITED]->limit.paid_ns = UINT64_MAX / 2;
    for (uint8_t number = 0; number < N_WAITING; number++) {
        make_frame(bytes, sizeof bytes, theirs, number);
        give(bytes, sizeof bytes);
        sender_run();
    }
}

/* As after a burst in which the ring had no room for its copies. */
static void leave_a_flood_begun(struct tun_reader *reader) {
    static const uint8_t broadcast[MAC_SIZE] = {255, 255, 255, 255, 255, 255};
    static uint8_t bytes[VNET_LENGTH + FLOODED];
    make_frame(bytes + VNET_LENGTH, FLOODED, broadcast, 0);
    flooding_begin(reader, &(struct frame){bytes, FLOODED, 0}, ORIGIN_DEVICE,
                   &(struct arrival){.now_ns = clock_now_ns()});
}

/* Its copy for the limited peer is appended to the queue, which moves to make room for it. */
static void a_flood_that_goes_on_leaves_what_waits_as_it_is(void) {
    sender_open_switch();
    struct tun_reader *reader = tun_reader_of(sender.worker.loop);
    sender_attach(LIMITED, sealed_format(MODE_TAP, true));
    set_key(LIMITED, AEAD_CHACHA20_POLY1305, 0);
    mac_table_learn(sender.lane.macs, LIMITED, mac_key_of(theirs, 0), clock_now_ns(), always, NULL);
    limit(1000000, false);
    fill_queue_of(reader);
    struct shaper *shaper = reader->shaping.shapers[LIMITED];
    for (int i = 0; i < N_GONE; i++)
        shaping_pop(&reader->shaping, 0, clock_now_ns());
    CHECK(shaper->queue.end + FLOODED > LINK_QUEUE_SHARE);
    leave_a_flood_begun(reader);
    shaper->limit.paid_ns = shaper->limit.burst_ns = 0; /* one passes, the next a moment later */
    sender_run();
    CHECK(shaper->queue.end < LINK_QUEUE_SHARE / 2 + 2 * FLOODED); /* it has moved */
    uint8_t number = N_GONE;
    while (open_next(AEAD_CHACHA20_POLY1305)) {
        const uint8_t *frame = opened.content + MESSAGE_TYPE_LENGTH;
        CHECK_EQUAL(opened.length, MESSAGE_TYPE_LENGTH + WAITING);
        CHECK(memcmp(frame, theirs, MAC_SIZE) == 0);
        CHECK_EQUAL(frame[2 * MAC_SIZE], number);
        CHECK_EQUAL(frame[WAITING - 1], number++);
    }
    CHECK(number > N_GONE && number < N_WAITING);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    sender_close();
}

static void limits_that_cannot_be_are_refused(void) {
    open_two();
    struct loop *loop = sender.worker.loop;
    CHECK(loop_set_rate_limit(loop, N_PEER_SLOTS, 1000, 0, false) < 0);
    CHECK(loop_set_rate_limit(loop, 1, RATE_MAX + 1, 0, false) < 0);
    CHECK(loop_set_rate_limit(loop, 1, 1000, 1ull << 32, false) < 0);
    CHECK(loop_add_reach(loop, 1, (const uint8_t[]){10, 0, 0, 0}, 4, 8) < 0); /* link-reader's */
    sender_close();
}

int main(void) {
    RUN(what_is_above_the_rate_waits_for_its_time);
    RUN(the_loop_wakes_up_by_itself_for_what_waits);
    RUN(what_finds_the_queue_full_is_dropped_and_counted);
    RUN(a_peer_that_is_cut_off_gets_nothing_but_keepalives);
    RUN(what_waits_for_a_peer_whose_session_ends_is_not_sent);
    RUN(what_waits_for_a_peer_that_is_removed_is_not_the_next_ones_in_its_slot);
    RUN(a_flood_that_goes_on_leaves_what_waits_as_it_is);
    RUN(limits_that_cannot_be_are_refused);
    return EXIT_SUCCESS;
}
