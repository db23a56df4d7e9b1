/* A stream whose peers take turns: what TCP makes of a turn is whole packets. */
#define _GNU_SOURCE
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include "check.h"
#include "formats.h"
#include "outbound/fair_writer.h"
#include "outbound/link_writer.h"
#include "sockets.h"
#include "worker_thread.h"

enum { LENGTH = 60000, SEGMENT = 1000 };

static struct lane_memory lane;
static struct worker_thread worker;
static int pair[2];

/* Without waiting for more (TCP_NODELAY), as all of fastun's streams. */
static void open_tcp_pair(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), is_on = 1, n = SEGMENT;
    CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQUAL(listen(listener, 1), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQUAL(setsockopt(pair[0], IPPROTO_TCP, TCP_MAXSEG, &n, sizeof n), 0);
    CHECK_EQUAL(setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &is_on, sizeof is_on), 0);
    CHECK_EQUAL(connect(pair[0], (struct sockaddr *)&address, sizeof address), 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    CHECK(pair[1] >= 0);
    CHECK_EQUAL(ioctl(pair[0], FIONBIO, &is_on), 0);
    close(listener);
}

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
    open_tcp_pair();
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
