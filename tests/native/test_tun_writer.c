/* What a device does not take is counted with its reason, and the next frame is tried. */
#define _GNU_SOURCE
#include <fcntl.h>

#include "check.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, PACKET = 100, N_RECORDS = 5, N_PACKETS = 3 };

/* Writes the records of N_PACKETS each to this file, and counts those dropped for the reason. */
static void check_all_dropped(const char *path, int flags, enum stats_drop reason) {
    int device_fd = open(path, flags | O_CLOEXEC);
    struct lane_memory lane;
    struct worker_thread worker;
    CHECK(device_fd >= 0);
    lane_memory_open(&lane, RING_BYTES);
    worker_open(&worker, ROLE_tun_writer, WIRE_PLAIN, MODE_TUN, &lane, device_fd);
    for (int i = 0; i < N_RECORDS; i++)
        lane_commit(&lane, (struct ring_record){.length = PACKET, .n_packets = N_PACKETS});
    lane_publish(&lane);
    worker_start(&worker);
    usleep(50 * 1000);
    CHECK_EQUAL(worker_stop(&worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_counter(lane.stats, ROLE_tun_writer, COUNTER_packets), 0);
    lane_check_dropped(&lane, reason, N_RECORDS * N_PACKETS);
    CHECK_EQUAL(ring_used_bytes(lane.ring), 0);
    worker_close(&worker);
    lane_memory_close(&lane);
    close(device_fd);
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
