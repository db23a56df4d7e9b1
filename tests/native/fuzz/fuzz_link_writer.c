/* Any records of a tun-reader in an attacker's hands before the link-writer: it comes to the ring's
 * end, and counts each packet of a sound record. Slots 0 to 3 are on streams, 4 to 6 on UDP. The
 * first byte says whether the peers take turns. */
#define _GNU_SOURCE
#include <arpa/inet.h>

#include "formats.h"
#include "fuzz_ring.h"
#include "outbound/link_writer.h"
#include "sockets.h"

enum { N_STREAMS = 4, N_DATAGRAMS = 3, SEND_BYTES = 1 << 20, N_RUNS_MAX = 1000 };

static struct lane_memory lane;
static struct worker_thread worker;
static int streams[N_STREAMS][2];
static int udp[2] = {-1, -1}; /* ours and the one that is sent to */
static struct udp_address to;

static int open_udp(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    FUZZ_CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0);
    FUZZ_CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

static void open_sockets(void) {
    struct sockaddr_in address;
    udp[0] = open_udp(&address);
    udp[1] = open_udp(&address);
    to = (struct udp_address){.family = UDP_ADDRESS_IPV4, .port = ntohs(address.sin_port)};
    memcpy(to.address, &address.sin_addr, 4);
    for (unsigned slot = 0; slot < N_STREAMS; slot++) {
        pair_open(streams[slot], SOCK_STREAM | SOCK_NONBLOCK);
        set_send_buffer(streams[slot][0], SEND_BYTES);
    }
}

/* Memory and sockets cost more than most inputs: they are made for many. */
static void open_worker(void) {
    static unsigned n_runs;
    if (udp[0] < 0)
        open_sockets();
    if (n_runs == N_RUNS_MAX) {
        worker_close(&worker);
        lane_memory_close(&lane);
        n_runs = 0;
    }
    if (n_runs++ == 0) {
        lane_memory_open(&lane, RING_SIZE_MIN);
        lane_memory_add_wake_fd(&lane);
        worker_open(&worker, ROLE_link_writer, WIRE_WIREGUARD, MODE_TUN, &lane, -1);
        FUZZ_CHECK(loop_add_socket(worker.loop, 0, udp[0], 1) == 0);
        for (unsigned slot = N_STREAMS; slot < N_STREAMS + N_DATAGRAMS; slot++)
            peer_write_endpoint(&lane.peers->by_link_reader[slot], &to);
    }
    memset(lane.stats, 0, sizeof *lane.stats);
}

static void attach(void) {
    struct link_format format = sealed_format(MODE_TUN, true), datagrams = datagram_format(1420);
    for (unsigned slot = 0; slot < N_STREAMS; slot++)
        FUZZ_CHECK(loop_attach_link(worker.loop, slot, slot, streams[slot][0], &format) == 0);
    for (unsigned slot = N_STREAMS; slot < N_STREAMS + N_DATAGRAMS; slot++)
        FUZZ_CHECK(loop_attach_link(worker.loop, slot, slot, -1, &datagrams) == 0);
}

static void detach(void) {
    for (unsigned slot = 0; slot < N_STREAMS + N_DATAGRAMS; slot++)
        loop_detach_link(worker.loop, slot);
}

static void drain(void) {
    static uint8_t bytes[65536];
    while (recv(udp[1], bytes, sizeof bytes, MSG_DONTWAIT) >= 0)
        ;
    for (unsigned slot = 0; slot < N_STREAMS; slot++)
        while (recv(streams[slot][1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool is_sound;
    if (size < 1)
        return 0;
    open_worker();
    attach();
    uint64_t n = fuzz_fill_ring(lane.ring, &lane.ring_stats, data + 1, size - 1, &is_sound);
    fuzz_run_writer(&worker, 2 * (N_STREAMS + N_DATAGRAMS));
    FUZZ_CHECK(ring_used_bytes(lane.ring) == 0);
    if (is_sound)
        FUZZ_CHECK(stats_read_counter(lane.stats, ROLE_link_writer, COUNTER_packets) +
                       lane_dropped_in_all(&lane) ==
                   n);
    detach();
    drain();
    return 0;
}
