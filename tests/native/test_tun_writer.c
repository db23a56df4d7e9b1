/* What a device does not take is counted with its reason, and the next frame is tried. */
#define _GNU_SOURCE
#include <fcntl.h>

#include "check.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, PACKET = 100, N_RECORDS = 5, N_PACKETS = 3 };

/* Writes the records of N_PACKETS each to this file, and counts those dropped for the reason. */
static void check_all_dropped(const char *path, int flags, enum stats_drop reason) {
    int ring_fd, stats_fd, peers_fd, device_fd = open(path, flags | O_CLOEXEC);
    struct ring *producer = ring_create(RING_BYTES, &ring_fd);
    struct stats *stats = stats_create(&stats_fd);
    struct peer_table *peers = peer_table_create(&peers_fd);
    static struct stats_block producer_stats;
    struct worker_thread worker;
    CHECK(device_fd >= 0 && producer != NULL && stats != NULL && peers != NULL);
    const struct worker_lane lane = {WIRE_PLAIN, MODE_TUN, RING_BYTES, stats, peers, -1};
    worker_open(&worker, ROLE_tun_writer, &lane, ring_fd, device_fd);
    for (int i = 0; i < N_RECORDS; i++) {
        struct ring_record *record = ring_reserve(producer, 2 * PACKET);
        *record = (struct ring_record){
            .offset = sizeof *record, .length = PACKET, .n_packets = N_PACKETS};
        ring_commit(producer, record);
    }
    ring_publish(producer, &producer_stats);
    worker_start(&worker);
    usleep(50 * 1000);
    CHECK_EQUAL(worker_stop(&worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_counter(stats, ROLE_tun_writer, COUNTER_packets), 0);
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        CHECK_EQUAL(stats_read_drop(stats, drop), drop == reason ? N_RECORDS * N_PACKETS : 0);
    CHECK_EQUAL(ring_used_bytes(producer), 0);
    worker_close(&worker);
    ring_detach(producer);
    stats_detach(stats);
    peer_table_detach(peers);
    const int fds[] = {ring_fd, stats_fd, peers_fd, device_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

static void what_the_device_refuses_is_counted(void) {
    check_all_dropped("/dev/null", O_RDONLY, DROP_tun_writer_device_refused);
}

/* A process's memory at 0 cannot be written, which is EIO as for an interface that is down. */
static void what_comes_while_the_device_is_down_is_counted(void) {
    check_all_dropped("/proc/self/mem", O_RDWR, DROP_tun_writer_device_down);
}

int main(void) {
    RUN(what_the_device_refuses_is_counted);
    RUN(what_comes_while_the_device_is_down_is_counted);
    return EXIT_SUCCESS;
}
