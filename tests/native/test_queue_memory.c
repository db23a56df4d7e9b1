/* As many peers as there can be, none of which reads: what the link-writer keeps for them is
 * bounded in all, shared, and given back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

#include "outbound/link_writer.h"
#include "check.h"
#include "formats.h"
#include "sockets.h"
#include "worker_thread.h"

enum {
    MIB = 1024 * 1024,
    RING_BYTES = 4 * MIB,
    FRAME = 60000,
    FRAMES_A_QUEUE = LINK_QUEUE_BYTES / FRAME, /* and some left */
    SLACK = 2 * RING_BYTES + 4 * MIB,          /* the ring is mapped twice, and so counted */
    SHARES = N_PEER_SLOTS * LINK_QUEUE_SHARE,
};

static struct lane_memory lane;
static struct worker_thread worker;
static int peers[N_PEER_SLOTS][2];
static unsigned n_links;
static const uint32_t magic = 0x6d616703; /* each frame begins with it */

static size_t resident_bytes(void) {
    char text[100] = {0};
    size_t n_all = 0, n_resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    CHECK_EQUAL(sscanf(text, "%zu %zu", &n_all, &n_resident), 2);
    close(fd);
    return n_resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void open_links(unsigned n) {
    struct link_format format = sealed_format(MODE_TUN, true);
    n_links = n;
    lane_memory_open(&lane, RING_BYTES);
    lane_memory_add_wake_fd(&lane);
    worker_open(&worker, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &lane, -1);
    for (unsigned slot = 0; slot < n; slot++) {
        pair_open(peers[slot], SOCK_STREAM | SOCK_NONBLOCK);
        set_send_buffer(peers[slot][0], 1);
        CHECK_EQUAL(loop_attach_link(worker.loop, slot, slot, peers[slot][0], &format), 0);
    }
    worker_start(&worker);
}

static void close_links(void) {
    for (unsigned slot = 0; slot < n_links; slot++) {
        loop_detach_link(worker.loop, slot);
        pair_close(peers[slot]);
    }
    worker_close(&worker);
    lane_memory_close(&lane);
}

static void send_frame(unsigned slot) {
    const struct ring_record frame = {.length = FRAME,
                                      .n_packets = 1,
                                      .n_bytes = FRAME,
                                      .slot = slot,
                                      .link_id = slot,
                                      .enqueued_ns = clock_now_ns()};
    struct ring_record *record;
    while ((record = lane_try_commit(&lane, &frame)) == NULL)
        usleep(20);
    memset(ring_payload(record), (int)slot, FRAME);
    memcpy(ring_payload(record), &magic, sizeof magic);
    lane_publish(&lane);
}

static void send_frames(unsigned slot, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        send_frame(slot);
}

/* Stops the loop when it has taken all. */
static void settle(void) {
    for (int i = 0; ring_used_bytes(lane.ring) > 0; i++) {
        CHECK(i < 1000000);
        usleep(20);
    }
    CHECK_EQUAL(worker_stop(&worker), LOOP_DOORBELL);
}

static uint64_t dropped(unsigned slot) {
    return atomic_load(&lane.peers->by_link_writer[slot].dropped_packets);
}

static size_t held(unsigned slot) {
    const struct link_queue *queue = &link_writer_of(worker.loop)->links[slot]->queue;
    return queue->end - queue->start;
}

/* The peer reads until all of its `n` frames have come out or were dropped; the loop runs. Returns
 * bytes read. */
static size_t read_all(unsigned slot, uint64_t n) {
    static uint8_t bytes[FRAME];
    size_t n_read = 0;
    for (unsigned i = 0; n_read < (n - dropped(slot)) * FRAME; i++) {
        CHECK(i < 500000);
        size_t at = n_read % FRAME;
        ssize_t got = read(peers[slot][1], bytes, FRAME - at);
        if (got > (ssize_t)sizeof magic && at == 0)
            CHECK_EQUAL(memcmp(bytes, &magic, sizeof magic), 0);
        n_read += got > 0 ? (size_t)got : 0;
        if (got <= 0)
            usleep(20);
    }
    return n_read;
}

/* -- claims ------------------------------------------------------------------------------------ */

static void peers_that_do_not_read_hold_128_mib_in_all_and_each_its_share(void) {
    CHECK_EQUAL(SHARES + LINK_POOL_BYTES, 128 * MIB);
    open_links(N_PEER_SLOTS);
    size_t before = resident_bytes(), full, drained;
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        send_frames(slot, FRAMES_A_QUEUE + 4);
    settle();
    full = resident_bytes() - before;
    printf("        %u peers that do not read: %zu MiB beside the ring\n", N_PEER_SLOTS,
           (full - 2 * RING_BYTES) / MIB);
    CHECK(full <= (size_t)SHARES + LINK_POOL_BYTES + SLACK);
    CHECK(link_writer_of(worker.loop)->queue_pool.n_used <= LINK_POOL_BYTES);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        CHECK(held(slot) <= LINK_QUEUE_BYTES);
        CHECK(dropped(slot) > 0);
    }
    worker_start(&worker);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        read_all(slot, FRAMES_A_QUEUE + 4);
    settle();
    drained = resident_bytes() - before;
    printf("        when they have read: %zu MiB\n", (drained - 2 * RING_BYTES) / MIB);
    CHECK(drained <= (size_t)SHARES + SLACK);
    CHECK_EQUAL(link_writer_of(worker.loop)->queue_pool.n_used, 0);
    CHECK_EQUAL(link_writer_of(worker.loop)->queue_pool.n_queues, 0);
    close_links();
}

static void a_peer_that_reads_keeps_its_share_beside_them(void) {
    open_links(N_PEER_SLOTS);
    const unsigned reader = N_PEER_SLOTS - 1;
    for (unsigned slot = 0; slot < reader; slot++)
        send_frames(slot, FRAMES_A_QUEUE + 4);
    for (unsigned i = 0; i < 50; i++) {
        send_frames(reader, 1);
        read_all(reader, 1);
    }
    settle();
    CHECK_EQUAL(dropped(reader), 0);
    CHECK_EQUAL(held(reader), 0);
    close_links();
}

/* Those that came first have taken the pool; one that comes later is owed an equal part all the
 * same. */
static void the_longest_queue_makes_way_for_one_that_is_owed_more(void) {
    enum { N_HOGS = 40, N_LATE = 20 };
    open_links(N_HOGS + 1);
    for (unsigned slot = 0; slot < N_HOGS; slot++)
        send_frames(slot, FRAMES_A_QUEUE + 4);
    send_frames(N_HOGS, N_LATE);
    settle();
    CHECK_EQUAL(dropped(N_HOGS), 0);
    CHECK(held(N_HOGS) >= (N_LATE - 1) * FRAME);
    CHECK(link_writer_of(worker.loop)->queue_pool.n_used <= LINK_POOL_BYTES);
    size_t n_held = 0;
    for (unsigned slot = 0; slot <= N_HOGS; slot++)
        n_held += held(slot);
    CHECK(n_held > LINK_POOL_BYTES / 2); /* what is there is used */
    close_links();
}

/* What is half out of a queue that makes way follows whole: else the stream would be out of
 * step. */
static void a_stream_whose_queue_makes_way_is_still_framed(void) {
    enum { N_HOGS = 40 };
    open_links(N_HOGS + 1);
    for (unsigned slot = 0; slot < N_HOGS; slot++)
        send_frames(slot, FRAMES_A_QUEUE + 4);
    send_frames(N_HOGS, 20);
    for (unsigned slot = 0; slot < N_HOGS; slot++)
        send_frames(slot, 2); /* behind what is left */
    settle();
    worker_start(&worker);
    for (unsigned slot = 0; slot < N_HOGS; slot++) {
        size_t n_read = read_all(slot, FRAMES_A_QUEUE + 6);
        CHECK_EQUAL(n_read % FRAME, 0);
        CHECK_EQUAL(n_read / FRAME + dropped(slot), FRAMES_A_QUEUE + 6);
    }
    settle();
    close_links();
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < 2 * N_PEER_SLOTS + 50) {
        printf("  skip  needs %d open files (ulimit -Hn)\n", 2 * N_PEER_SLOTS + 50);
        return EXIT_SKIP;
    }
    RUN(peers_that_do_not_read_hold_128_mib_in_all_and_each_its_share);
    RUN(a_peer_that_reads_keeps_its_share_beside_them);
    RUN(the_longest_queue_makes_way_for_one_that_is_owed_more);
    RUN(a_stream_whose_queue_makes_way_is_still_framed);
    return EXIT_SUCCESS;
}
