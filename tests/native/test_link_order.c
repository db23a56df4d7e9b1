/* The link-writer on a slow stream: small frames of other flows go first, each flow keeps its order, and every
 * frame arrives and is counted once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>

#include "check.h"
#include "formats.h"
#include "outbound/link_writer.h"
#include "packet/byteorder.h"
#include "random.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    LARGE = 60000,
    SMALL = 100,
    FRAMES_MAX = 2000,
    SEND_BUFFER = 8192,
    BULK = 1,
    PING = 2,
    FLOWS = 5,
};

static struct lane_memory lane;
static struct worker_thread worker;
static int pair[2];
static uint32_t n_published, n_published_of[FLOWS];
/* What has arrived: frames as flow << 16 | number within it. */
static uint32_t arrived[FRAMES_MAX], n_arrived;
static uint8_t bytes[2 * (STREAM_LENGTH_PREFIX + LARGE)];
static size_t n_bytes;

/* Another peer, to which nothing is sent: with several links the ring goes on for the others. */
static int other[2];

static void attach_other(enum wire wire) {
    struct link_format format =
        wire == WIRE_PLAIN ? plain_format(MODE_TUN, true) : sealed_format(MODE_TUN, true);
    pair_open(other, SOCK_STREAM | SOCK_NONBLOCK);
    CHECK_EQUAL(loop_attach_link(worker.loop, 1, 0, other[0], &format), 0);
}

static void attach(enum wire wire) {
    struct link_format format =
        wire == WIRE_PLAIN ? plain_format(MODE_TUN, true) : sealed_format(MODE_TUN, true);
    pair_open(pair, SOCK_STREAM | SOCK_NONBLOCK);
    set_send_buffer(pair[0], SEND_BUFFER);
    CHECK_EQUAL(loop_attach_link(worker.loop, 0, 0, pair[0], &format), 0);
}

static void open_with(enum wire wire) {
    n_published = n_arrived = 0;
    n_bytes = 0;
    memset(n_published_of, 0, sizeof n_published_of);
    lane_memory_open(&lane, 1 << 20);
    lane_memory_add_wake_fd(&lane);
    worker_open(&worker, ROLE_link_writer, wire, MODE_TUN, &lane, -1);
    attach(wire);
}

static void close_all(void) {
    pair_close(pair);
    worker_close(&worker);
    lane_memory_close(&lane);
}

/* `flow` 0 is an unknown one. */
static bool put(uint32_t flow, size_t length) {
    const struct ring_record frame = {.length = (uint32_t)(STREAM_LENGTH_PREFIX + length),
                                      .n_packets = 1,
                                      .n_bytes = (uint32_t)length,
                                      .flow = flow,
                                      .enqueued_ns = clock_now_ns()};
    struct ring_record *record = lane_try_commit(&lane, &frame);
    if (record == NULL)
        return false;
    be16_write(ring_payload(record), (uint16_t)length);
    le32_write(ring_payload(record) + STREAM_LENGTH_PREFIX, flow << 16 | n_published_of[flow]++);
    n_published++;
    lane_publish(&lane);
    return true;
}

static void take_whole_frames(void) {
    size_t at = 0;
    while (n_bytes - at >= STREAM_LENGTH_PREFIX &&
           n_bytes - at >= STREAM_LENGTH_PREFIX + (size_t)be16_read(bytes + at)) {
        CHECK(n_arrived < FRAMES_MAX);
        arrived[n_arrived++] = le32_read(bytes + at + STREAM_LENGTH_PREFIX);
        at += STREAM_LENGTH_PREFIX + be16_read(bytes + at);
    }
    memmove(bytes, bytes + at, n_bytes - at);
    n_bytes -= at;
}

/* The other end reads `n` bytes at most. */
static bool receive(size_t n) {
    size_t room = sizeof bytes - n_bytes;
    ssize_t n_read = read(pair[1], bytes + n_bytes, n < room ? n : room);
    n_bytes += n_read > 0 ? (size_t)n_read : 0;
    take_whole_frames();
    return n_read > 0;
}

static void check_all_arrived(void) {
    CHECK_EQUAL(n_arrived, n_published);
    CHECK_EQUAL(ring_used_bytes(lane.ring), 0);
    CHECK_EQUAL(stats_read_counter(lane.stats, ROLE_link_writer, COUNTER_packets), n_published);
    lane_check_dropped(&lane, N_DROPS, 0);
}

static void run_until_all_arrived(void) {
    do
        worker_run(&worker);
    while (receive(SIZE_MAX) || n_arrived < n_published);
    check_all_arrived();
}

static void check_order_within_flows(void) {
    uint32_t next[FLOWS] = {0};
    for (uint32_t i = 0; i < n_arrived; i++)
        CHECK_EQUAL(arrived[i] & 0xffff, next[arrived[i] >> 16]++);
}

static uint32_t place_of(uint32_t flow, uint32_t number) {
    for (uint32_t i = 0; i < n_arrived; i++)
        if (arrived[i] == (flow << 16 | number))
            return i;
    return UINT32_MAX;
}

static void a_small_frame_overtakes_the_large_ones_that_wait(void) {
    const enum wire wires[] = {WIRE_WIREGUARD, WIRE_PLAIN};
    for (int i = 0; i < 2; i++) {
        open_with(wires[i]);
        for (int n = 0; n < 4; n++)
            put(BULK, LARGE);
        worker_run(&worker);
        put(PING, SMALL);
        put(BULK, SMALL);
        put(PING, SMALL);
        run_until_all_arrived();
        check_order_within_flows();
        CHECK_EQUAL(place_of(PING, 0), 1); /* behind the one that was half out */
        CHECK_EQUAL(place_of(PING, 1), 2);
        close_all();
    }
}

/* What a full stream does not take is in a queue of its own. */
static void so_it_does_where_there_are_several_peers(void) {
    open_with(WIRE_WIREGUARD);
    attach_other(WIRE_WIREGUARD);
    for (int n = 0; n < 4; n++)
        put(BULK, LARGE);
    worker_run(&worker);
    CHECK_EQUAL(ring_used_bytes(lane.ring), 0);
    while (n_arrived == 0) { /* the first one is out, and the second half so */
        receive(1000);
        worker_run(&worker);
    }
    put(PING, SMALL);
    put(BULK, SMALL);
    put(PING, SMALL);
    run_until_all_arrived();
    check_order_within_flows();
    CHECK_EQUAL(place_of(PING, 0), 2);
    CHECK_EQUAL(place_of(PING, 1), 3);
    CHECK_EQUAL(place_of(BULK, 4), n_arrived - 1);
    pair_close(other);
    close_all();
}

static void none_overtakes_where_the_flow_is_unknown(void) {
    open_with(WIRE_WIREGUARD);
    put(BULK, LARGE);
    put(0, LARGE);
    put(PING, SMALL);
    run_until_all_arrived();
    CHECK_EQUAL(place_of(PING, 0), 2);
    close_all();
}

static void put_at_random(struct random *random, size_t most) {
    while (n_published < FRAMES_MAX / 4) {
        uint32_t flow = (uint32_t)random_below(random, FLOWS);
        size_t length = flow == BULK ? most : 10 + random_below(random, 3000);
        if (!put(flow, length) || random_below(random, 4) == 0)
            receive(random_below(random, 200000));
    }
}

/* Whatever arrives, and however the other end reads; also with several peers, where the loop moves what
 * waits to the link's own queue. */
static void every_frame_arrives_once_and_in_its_flows_order(void) {
    struct random random = {11};
    for (int round = 0; round < 20; round++) {
        bool has_other = round % 4 == 0;
        open_with(round % 2 == 0 ? WIRE_WIREGUARD : WIRE_PLAIN);
        if (has_other)
            attach_other(WIRE_WIREGUARD);
        worker_start(&worker);
        put_at_random(&random, has_other ? 3000 : LARGE); /* which its queue can hold */
        while (n_arrived < n_published)
            if (!receive(SIZE_MAX))
                usleep(100);
        CHECK_EQUAL(worker_stop(&worker), LOOP_DOORBELL);
        check_all_arrived();
        check_order_within_flows();
        if (has_other)
            pair_close(other);
        close_all();
    }
}

/* Three large frames and a small one behind them, which arrives before the last of them. */
static void have_one_overtake(void) {
    for (int n = 0; n < 3; n++)
        put(BULK, LARGE);
    worker_run(&worker);
    put(PING, SMALL);
    while (place_of(PING, 0) == UINT32_MAX) {
        worker_run(&worker);
        receive(1000);
    }
}

/* On the unsealed wires the next link gets what the last one has not taken, and what overtook is not
 * sent twice. */
static void what_has_overtaken_is_not_sent_to_the_next_link_again(void) {
    open_with(WIRE_PLAIN);
    have_one_overtake();
    uint32_t n_before = n_arrived;
    CHECK(place_of(BULK, 2) == UINT32_MAX);
    loop_detach_link(worker.loop, 0);
    pair_close(pair);
    n_bytes = 0;
    attach(WIRE_PLAIN);
    do
        worker_run(&worker);
    while (receive(SIZE_MAX) || ring_used_bytes(lane.ring) > 0);
    CHECK_EQUAL(place_of(BULK, 2), n_arrived - 1);
    for (uint32_t i = n_before; i < n_arrived; i++)
        CHECK_EQUAL(arrived[i] >> 16, BULK);
    close_all();
}

/* The other end has ended, and no other comes. */
static void what_has_overtaken_is_not_dropped_as_well(void) {
    open_with(WIRE_WIREGUARD);
    have_one_overtake();
    loop_detach_link(worker.loop, 0);
    worker_run(&worker);
    CHECK_EQUAL(stats_read_counter(lane.stats, ROLE_link_writer, COUNTER_packets) +
                    lane_dropped_in_all(&lane),
                n_published);
    close_all();
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    RUN(a_small_frame_overtakes_the_large_ones_that_wait);
    RUN(so_it_does_where_there_are_several_peers);
    RUN(none_overtakes_where_the_flow_is_unknown);
    RUN(every_frame_arrives_once_and_in_its_flows_order);
    RUN(what_has_overtaken_is_not_sent_to_the_next_link_again);
    RUN(what_has_overtaken_is_not_dropped_as_well);
    return EXIT_SUCCESS;
}
