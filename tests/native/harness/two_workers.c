#define _GNU_SOURCE
#include "two_workers.h"

#include <string.h>

#include "check.h"
#include "packet/byteorder.h"
#include "packet/encapsulation.h"
#include "packet/headers.h"
#include "shared/token.h"
#include "sockets.h"

enum { RING_BYTES = 1 << 20 };

struct lane_memory two_lane;
struct worker_thread two_reader, two_writer;
int two_device[2], two_stream[2];
uint32_t two_n_given;

uint64_t counted(enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(two_lane.stats, role, counter);
}

void await_sleep(void) {
    for (int ms = 0; (atomic_load(&two_lane.ring->shared->consumer.asleep) & TOKEN_OFFERED) == 0;
         ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
}

void open_lane(bool hands_over) {
    two_n_given = 0;
    lane_memory_open(&two_lane, RING_BYTES);
    lane_memory_add_wake_fd(&two_lane);
    two_lane.hands_over = hands_over;
    pair_open(two_device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    pair_open(two_stream, SOCK_STREAM | SOCK_NONBLOCK);
}

void close_lane(void) {
    lane_memory_close(&two_lane);
    pair_close(two_device);
    pair_close(two_stream);
}

void close_workers(void) {
    worker_stop(&two_reader);
    worker_stop(&two_writer);
    worker_close(&two_reader);
    worker_close(&two_writer);
    close_lane();
}

void two_make_packet(uint8_t *packet, size_t length) {
    memset(packet, 0, length);
    packet[0] = 0x45;
    be16_write(packet + 2, (uint16_t)length);
    be32_write(packet + 16, 0x0a000002);
    be32_write(packet + IPV4_HEADER_SIZE, two_n_given++);
}

void two_give(size_t length) {
    uint8_t frame[VNET_LENGTH + GIVEN_MAX] = {0};
    two_make_packet(frame + VNET_LENGTH, length);
    CHECK_EQUAL(write(two_device[1], frame, VNET_LENGTH + length), VNET_LENGTH + length);
}

void check_all_counted(void) {
    for (int ms = 0; ring_used_bytes(two_lane.ring) > 0; ms++) {
        CHECK(ms < PATIENCE_MS);
        usleep(1000);
    }
    CHECK_EQUAL(lane_dropped_in_all(&two_lane), 0);
    CHECK_EQUAL(counted(ROLE_tun_reader, COUNTER_packets), two_n_given);
    CHECK_EQUAL(counted(ROLE_link_writer, COUNTER_packets), two_n_given);
    CHECK_EQUAL(lane_peer_field(&two_lane, 0, "transmit_packets"), two_n_given);
}
