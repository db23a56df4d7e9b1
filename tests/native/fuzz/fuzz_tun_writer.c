/* Any records of a link-reader in an attacker's hands before the tun-writer: it comes to the ring's
 * end, stays inside it, and counts each packet of a sound record. The first byte has the mode,
 * and whether it puts packets together. */
#define _GNU_SOURCE
#include "fuzz_ring.h"
#include "sockets.h"
#include "worker_thread.h"

enum { FRAME_MAX = VNET_LENGTH + 65536 + 18, N_EVENTS_MAX = 16, DEVICE_BYTES = 4 << 20 };

/* The kernel judges them. */
static void take_frames(int device) {
    static uint8_t frame[FRAME_MAX];
    while (recv(device, frame, sizeof frame, MSG_DONTWAIT) >= 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lane_memory lane;
    struct worker_thread worker;
    int device[2];
    bool is_sound;
    if (size < 1)
        return 0;
    lane_memory_open(&lane, RING_SIZE_MIN);
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    set_send_buffer(device[0], DEVICE_BYTES);
    worker_open(&worker, ROLE_tun_writer, WIRE_PLAIN, (data[0] & 1) != 0 ? MODE_TAP : MODE_TUN,
                &lane, device[0]);
    loop_coalesce(worker.loop, (data[0] & 2) != 0 ? DEVICE_OFFLOAD_TCP_UDP : DEVICE_OFFLOAD_NONE);
    uint64_t n = fuzz_fill_ring(lane.ring, &lane.ring_stats, data + 1, size - 1, &is_sound);
    enum loop_end end = worker_run(&worker);
    for (int i = 0; end == LOOP_EVENT && i < N_EVENTS_MAX; i++)
        end = loop_run(worker.loop);
    FUZZ_CHECK(end == LOOP_DOORBELL);
    take_frames(device[1]);
    FUZZ_CHECK(ring_used_bytes(lane.ring) == 0);
    if (is_sound)
        FUZZ_CHECK(stats_read_counter(lane.stats, ROLE_tun_writer, COUNTER_packets) +
                       lane_dropped_in_all(&lane) ==
                   n);
    worker_close(&worker);
    pair_close(device);
    lane_memory_close(&lane);
    return 0;
}
