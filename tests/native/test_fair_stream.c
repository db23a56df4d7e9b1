/* A stream whose peers take turns: what TCP makes of a turn is whole packets. */
#define _GNU_SOURCE
#include "check.h"
#include "formats.h"
#include "outbound/fair_writer.h"
#include "outbound/link_writer.h"
#include "sockets.h"
#include "tcp_pair.h"
#include "worker_thread.h"

enum { LENGTH = 60000, SEGMENT = 1000 };

static struct lane_memory lane;
static struct worker_thread worker;
static int pair[2];

static struct tcp_info info(void) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    CHECK_EQUAL(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info;
}

static size_t read_some(void) {
    static uint8_t bytes[65536];
    ssize_t n = read(pair[1], bytes, sizeof bytes);
    return n > 0 ? (size_t)n : 0;
}

static void open_all(void) {
    const struct link_format format = plain_format(MODE_TUN, true);
    tcp_pair_open(pair, SEGMENT, 0);
    lane_memory_open(&lane, 1 << 20);
    lane_memory_add_wake_fd(&lane);
    worker_open(&worker, ROLE_link_writer, WIRE_PLAIN, MODE_TUN, &lane, -1);
    CHECK_EQUAL(loop_attach_link(worker.loop, 0, 0, pair[0], &format), 0);
    lane_commit(&lane, (struct ring_record){.length = LENGTH,
                                            .n_packets = 1,
                                            .n_bytes = LENGTH,
                                            .enqueued_ns = clock_now_ns()});
    lane_publish(&lane);
}

/* The kernel has room for a byte at a time. */
static void a_turn_is_whole_packets_however_little_room_there_is(void) {
    size_t n_read = 0;
    open_all();
    struct link_writer *writer = link_writer_of(worker.loop);
    writer->fair.uplink = (struct uplink){.rate = 1, .looked_ns = clock_now_ns()};
    writer->fair.uplink.moved_ns = writer->fair.full_ns = clock_now_ns();
    writer->fair.is_on = true;
    while (n_read < LENGTH) {
        worker_run(&worker);
        n_read += read_some();
    }
    CHECK_EQUAL(n_read, LENGTH);
    uint32_t segment = info().tcpi_snd_mss, n_sent = info().tcpi_data_segs_out;
    CHECK(segment > SEGMENT / 2 && segment <= SEGMENT);
    CHECK(n_sent <= LENGTH / segment + 3); /* with turns of a byte it is 9 */
    pair_close(pair);
    worker_close(&worker);
    lane_memory_close(&lane);
}

int main(void) {
    RUN(a_turn_is_whole_packets_however_little_room_there_is);
    return EXIT_SUCCESS;
}
