/* The link-reader with peers that have a rate limit, or that may not send everywhere. */
#define _GNU_SOURCE
#include <time.h>

#include "check.h"
#include "sealed_link.h"

enum { A_SECOND = 1000, N = 300 };

static void pass_ms(unsigned n) {
    nanosleep(&(struct timespec){n / 1000, n % 1000 * 1000000}, NULL);
}

static void limit(uint64_t rate, bool is_cut_off) {
    CHECK_EQUAL(loop_set_rate_limit(reader.loop, SLOT, rate, 0, is_cut_off), 0);
}

static void send_n(uint64_t first, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        send_good(first + i);
}

static void run(void) {
    enum loop_end end;
    while ((end = worker_run(&reader.worker)) == LOOP_EVENT) { /* confirmed */
        char message;
        CHECK_EQUAL(read(reader.worker.channel[1], &message, 1), 1);
    }
    CHECK_EQUAL(end, LOOP_DOORBELL);
}

static uint64_t now_ms(void) {
    return clock_now_ns() / 1000000;
}

/* How long a worker is kept from running only adds to it. */
static void what_is_above_the_rate_waits_for_its_time(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    uint64_t start_ms = now_ms();
    limit(PACKET * 5, false); /* five packets a second, and a burst of 20 ms */
    send_n(0, 3);
    while (lane_count_records(&reader.lane) < 3 && now_ms() < start_ms + 20 * A_SECOND) {
        run();
        pass_ms(20);
    }
    CHECK(now_ms() >= start_ms + 2 * 200 - 2 * 20);
    check_counts(3, NO_DROP, 0);
    reader_close();
}

static void the_loop_wakes_up_by_itself_for_what_waits(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    send_good(0);
    run(); /* what it has to report */
    run();
    limit(PACKET * 20, false);
    worker_start(&reader.worker);
    send_n(1, 5);
    for (int i = 0; i < 100 && lane_count_records(&reader.lane) < 6; i++)
        pass_ms(50);
    CHECK_EQUAL(worker_stop(&reader.worker), LOOP_DOORBELL);
    check_counts(6, NO_DROP, 0);
    reader_close();
}

static void what_finds_the_queue_full_is_dropped_and_counted(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    limit(10, false);
    for (uint64_t i = 0; i < N; i++) {
        send_good(i);
        run();
    }
    run();
    uint64_t n_dropped = field(SLOT, "limited_inbound_packets");
    CHECK(n_dropped > 20 && n_dropped < N);
    CHECK_EQUAL(field(OTHER_SLOT, "limited_inbound_packets"), 0);
    limit(0, false);
    run();
    check_counted(N - n_dropped, DROP_link_reader_rate_limit, n_dropped);
    reader_close();
}

static void a_peer_that_is_cut_off_sends_nothing(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    limit(0, true);
    send_n(0, 3);
    run();
    run();
    CHECK_EQUAL(field(SLOT, "limited_inbound_packets"), 3);
    CHECK(field(SLOT, "received_ns") != 0); /* its session lives on */
    limit(0, false);
    send_good(3);
    check_counts(1, DROP_link_reader_quota, 3);
    reader_close();
}

static void what_waits_of_a_peer_that_is_removed_is_dropped(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    limit(10, false);
    send_n(0, 3);
    run();
    run();
    loop_forget_ips(reader.loop, SLOT);
    limit(0, false);
    run();
    check_counts(1, DROP_link_reader_rate_limit, 2);
    reader_close();
}

static void a_peer_reaches_what_it_may_and_nothing_else(void) {
    const uint8_t others[4] = {192, 168, 0, 0}, ours[4] = {10, 0, 0, 1};
    reader_open(AEAD_CHACHA20_POLY1305);
    CHECK_EQUAL(loop_add_reach(reader.loop, SLOT, others, 4, 16), 0);
    send_n(0, 2);
    run();
    run();
    CHECK_EQUAL(field(SLOT, "not_permitted_packets"), 2);
    CHECK_EQUAL(loop_add_reach(reader.loop, SLOT, ours, 4, 32), 0);
    send_good(2);
    run();
    loop_clear_reach(reader.loop, SLOT);
    send_good(3);
    check_counts(2, DROP_link_reader_not_permitted, 2);
    reader_close();
}

static void ethernet_frames_have_no_destination_to_judge(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TAP);
    CHECK(loop_add_reach(reader.loop, SLOT, (const uint8_t[]){10, 0, 0, 0}, 4, 8) < 0);
    reader_close();
}

int main(void) {
    RUN(what_is_above_the_rate_waits_for_its_time);
    RUN(the_loop_wakes_up_by_itself_for_what_waits);
    RUN(what_finds_the_queue_full_is_dropped_and_counted);
    RUN(a_peer_that_is_cut_off_sends_nothing);
    RUN(what_waits_of_a_peer_that_is_removed_is_dropped);
    RUN(a_peer_reaches_what_it_may_and_nothing_else);
    RUN(ethernet_frames_have_no_destination_to_judge);
    return EXIT_SUCCESS;
}
