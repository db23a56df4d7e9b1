#define _GNU_SOURCE
#include "flow_writer.h"

#include <string.h>

#include "check.h"
#include "splitter.h"

enum { RING_BYTES = 1 << 20, WINDOW = 60000 };

/* -- packets ----------------------------------------------------------------------------------- */

static void put_u32(uint8_t *at, uint32_t value) {
    split_put_u16(at, value >> 16);
    split_put_u16(at + 2, value);
}

static size_t place_ip(struct flow *flow, uint8_t *ip) {
    if (flow->version == 6) {
        memcpy(ip,
               (uint8_t[40]){0x60, [6] = flow->protocol, 64, 0xfd, 9, [23] = 2, 0xfd, 9, [39] = 1},
               40);
        return 40;
    }
    memcpy(ip, (uint8_t[20]){0x45, [8] = 64, flow->protocol, [12] = 10, 9, 0, 2, 10, 9, 0, 1}, 20);
    split_put_u16(ip + 4, flow->id++);
    return 20;
}

size_t flow_packet(struct flow *flow, uint8_t flags, size_t payload, int fill, uint8_t *packet) {
    size_t at = place_ip(flow, packet), header = at + (flow->protocol == SPLIT_UDP ? 8 : 20);
    split_put_u16(packet + at, FLOW_THEIR_PORT);
    split_put_u16(packet + at + 2, FLOW_OUR_PORT);
    if (flow->protocol == SPLIT_TCP) {
        put_u32(packet + at + 4, flow->sequence);
        put_u32(packet + at + 8, flow->acknowledgement);
        packet[at + 12] = 5 << 4;
        packet[at + 13] = flags;
        split_put_u16(packet + at + 14, WINDOW);
        split_put_u16(packet + at + 18, 0);
    }
    memset(packet + header, fill, payload);
    split_complete(packet, header + payload);
    flow->sequence += (uint32_t)payload + ((flags & (FLOW_SYN | FLOW_FIN)) != 0);
    return header + payload;
}

/* -- the tun-writer ---------------------------------------------------------------------------- */

void writer_open(struct writer *writer, enum mode mode, int device_fd) {
    *writer = (struct writer){.mode = mode};
    lane_memory_open(&writer->lane, RING_BYTES);
    worker_open(&writer->worker, ROLE_tun_writer, WIRE_WIREGUARD, mode, &writer->lane, device_fd);
    loop_coalesce(writer->worker.loop, DEVICE_OFFLOAD_TCP_UDP);
}

void writer_close(struct writer *writer) {
    worker_close(&writer->worker);
    lane_memory_close(&writer->lane);
}

uint8_t *writer_put(struct writer *writer, const uint8_t *packet, size_t length) {
    size_t lead = writer->mode == MODE_TAP ? FLOW_ETHERNET : 0;
    size_t frame = lead + length;
    struct ring_record *record =
        lane_commit(&writer->lane, (struct ring_record){.length = (uint32_t)(VNET_LENGTH + frame),
                                                        .n_packets = 1,
                                                        .n_bytes = (uint32_t)frame,
                                                        .enqueued_ns = clock_now_ns()});
    uint8_t *bytes = ring_payload(record) + VNET_LENGTH;
    if (lead > 0) {
        memcpy(bytes, (uint8_t[12]){2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, writer->source}, 12);
        split_put_u16(bytes + 12, packet[0] >> 4 == 4 ? 0x0800 : 0x86dd);
    }
    memcpy(bytes + lead, packet, length);
    return ring_payload(record);
}

size_t writer_put_flow(struct writer *writer, struct flow *flow, int from, int n, int bad) {
    uint8_t packet[FLOW_PACKET_MAX];
    size_t n_bytes = 0;
    for (int i = from; i < from + n; i++) {
        size_t length = flow_packet(flow, FLOW_ACK, FLOW_PAYLOAD, i, packet);
        packet[length - 1] ^= i == bad;
        writer_put(writer, packet, length);
        n_bytes += length;
    }
    return n_bytes;
}

void writer_run(struct writer *writer) {
    lane_publish(&writer->lane);
    CHECK_EQUAL(worker_run(&writer->worker), LOOP_DOORBELL);
    CHECK_EQUAL(ring_used_bytes(writer->lane.ring), 0);
}

uint64_t writer_calls(struct writer *writer, enum stats_call call) {
    return stats_read_call(writer->lane.stats, ROLE_tun_writer, call);
}

uint64_t writer_counter(struct writer *writer, enum stats_counter counter) {
    return stats_read_counter(writer->lane.stats, ROLE_tun_writer, counter);
}
