/* The link-writer and a TCP stream that has enough on its way: it is held, not lost, and goes on without
 * any event. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "check.h"
#include "formats.h"
#include "outbound/link_writer.h"
#include "packet/byteorder.h"
#include "sockets.h"
#include "tcp_pair.h"
#include "worker_thread.h"

enum { LENGTH = 60000, LIMIT = 10000, FRAMES = 8, STEPS_MAX = 5000, RECEIVE_BUFFER = 4096 };

static struct lane_memory lane;
static struct worker_thread worker;
static int pair[2];

static void open_all(void) {
    const struct link_format format = plain_format(MODE_TUN, true);
    /* What the receiver does not read stays with the sender. */
    tcp_pair_open(pair, 0, RECEIVE_BUFFER);
    lane_memory_open(&lane, 1 << 20);
    lane_memory_add_wake_fd(&lane);
    worker_open(&worker, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &lane, -1);
    CHECK_EQUAL(loop_attach_link(worker.loop, 0, 0, pair[0], &format), 0);
    for (int i = 0; i < FRAMES; i++)
        lane_commit(&lane, (struct ring_record){.length = LENGTH,
                                                .n_packets = 1,
                                                .n_bytes = LENGTH,
                                                .enqueued_ns = clock_now_ns()});
    lane_publish(&lane);
}

static void close_all(void) {
    pair_close(pair);
    worker_close(&worker);
    lane_memory_close(&lane);
}

static struct writer_link *the_link(void) {
    return link_writer_of(worker.loop)->links[0];
}

/* As after a look that has found a queue on the path. */
static void limit(void) {
    the_link()->path.is_limited = true;
    the_link()->path.limit = LIMIT;
    the_link()->path.first_rate = UINT64_MAX;
    the_link()->path.looked_ns = the_link()->path.begun_ns = clock_now_ns();
}

static size_t read_all(void) {
    static uint8_t bytes[65536];
    size_t n_read = 0;
    ssize_t n;
    while ((n = read(pair[1], bytes, sizeof bytes)) > 0)
        n_read += (size_t)n;
    return n_read;
}

static void it_gets_no_more_than_the_limit_while_nothing_is_taken(void) {
    open_all();
    for (int i = 0; i < 20; i++) {
        limit();
        worker_run(&worker);
        usleep(1000);
    }
    int n_unsent = 0;
    CHECK_EQUAL(ioctl(pair[0], SIOCOUTQNSD, &n_unsent), 0);
    CHECK(n_unsent <= LIMIT);
    CHECK(the_link()->is_held && the_link()->is_full);
    CHECK(ring_used_bytes(lane.ring) > (FRAMES - 3) * LENGTH);
    close_all();
}

static void it_gets_the_rest_without_any_event(void) {
    size_t n_read = 0;
    open_all();
    for (int i = 0; i < STEPS_MAX && n_read < FRAMES * (size_t)LENGTH; i++) {
        limit();
        worker_run(&worker);
        n_read += read_all();
        usleep(500);
    }
    CHECK_EQUAL(n_read, FRAMES * (size_t)LENGTH);
    CHECK_EQUAL(ring_used_bytes(lane.ring), 0);
    lane_check_dropped(&lane, N_DROPS, 0);
    close_all();
}

/* A loop that runs wakes by itself. */
static void a_loop_that_sleeps_looks_again(void) {
    size_t n_read = 0;
    open_all();
    limit();
    worker_start(&worker);
    for (int i = 0; i < STEPS_MAX && n_read < FRAMES * (size_t)LENGTH; i++) {
        n_read += read_all();
        usleep(1000);
    }
    CHECK_EQUAL(n_read, FRAMES * (size_t)LENGTH);
    CHECK_EQUAL(worker_stop(&worker), LOOP_DOORBELL);
    close_all();
}

static void a_held_stream_that_goes_is_not_counted_as_full(void) {
    open_all();
    for (int i = 0; i < 20; i++) {
        limit();
        worker_run(&worker);
    }
    CHECK(the_link()->is_held);
    loop_detach_link(worker.loop, 0);
    CHECK_EQUAL(link_writer_of(worker.loop)->n_held, 0);
    CHECK_EQUAL(link_writer_of(worker.loop)->n_full, 0);
    close_all();
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    RUN(it_gets_no_more_than_the_limit_while_nothing_is_taken);
    RUN(it_gets_the_rest_without_any_event);
    RUN(a_loop_that_sleeps_looks_again);
    RUN(a_held_stream_that_goes_is_not_counted_as_full);
    return EXIT_SUCCESS;
}
