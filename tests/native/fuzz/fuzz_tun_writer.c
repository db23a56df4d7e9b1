/* Any records of a link-reader in an attacker's hands before the tun-writer: it comes to the ring's
 * end, stays inside it, and counts each packet of a sound record. The first byte has the mode,
 * and whether it puts packets together. */
#define _GNU_SOURCE
#include "fuzz_ring.h"
#include "sockets.h"

enum {
    FRAME_MAX = VNET_LENGTH + 65536 + 18,
    N_EVENTS_MAX = 16,
    DEVICE_BYTES = 4 << 20,
    N_RUNS_MAX = 1000
};

/* The kernel judges them. */
static void take_frames(int device) {
    static uint8_t frame[FRAME_MAX];
    while (recv(device, frame, sizeof frame, MSG_DONTWAIT) >= 0)
        ;
}

/* Of each mode one for many inputs: memory and sockets cost more than most of these. */
static struct writer {
    struct lane_memory lane;
    struct worker_thread worker;
    int device[2];
    unsigned n_runs;
} writers[MODE_TAP + 1];

static struct writer *writer_of(enum mode mode) {
    struct writer *writer = &writers[mode];
    if (writer->n_runs == N_RUNS_MAX) {
        worker_close(&writer->worker);
        pair_close(writer->device);
        lane_memory_close(&writer->lane);
        writer->n_runs = 0;
    }
    if (writer->n_runs++ == 0) {
        lane_memory_open(&writer->lane, RING_SIZE_MIN);
        pair_open(writer->device, SOCK_SEQPACKET | SOCK_NONBLOCK);
        set_send_buffer(writer->device[0], DEVICE_BYTES);
        worker_open(&writer->worker, ROLE_tun_writer, WIRE_PLAIN, mode, &writer->lane,
                    writer->device[0]);
    }
    memset(writer->lane.stats, 0, sizeof *writer->lane.stats);
    return writer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool is_sound;
    if (size < 1)
        return 0;
    struct writer *writer = writer_of((data[0] & 1) != 0 ? MODE_TAP : MODE_TUN);
    struct lane_memory *lane = &writer->lane;
    loop_coalesce(writer->worker.loop,
                  (data[0] & 2) != 0 ? DEVICE_OFFLOAD_TCP_UDP : DEVICE_OFFLOAD_NONE);
    uint64_t n = fuzz_fill_ring(lane->ring, &lane->ring_stats, data + 1, size - 1, &is_sound);
    fuzz_run_writer(&writer->worker, N_EVENTS_MAX);
    take_frames(writer->device[1]);
    FUZZ_CHECK(ring_used_bytes(lane->ring) == 0);
    if (is_sound)
        FUZZ_CHECK(stats_read_counter(lane->stats, ROLE_tun_writer, COUNTER_packets) +
                       lane_dropped_in_all(lane) ==
                   n);
    return 0;
}
