/* flow_writer: a tun-writer, and packets of one flow to put in its ring. The loop runs in the
 * caller's thread: a message that waits on the channel ends it when the ring is empty. */
#ifndef FLOW_WRITER_H
#define FLOW_WRITER_H

#include "packet/gro.h"
#include "worker_thread.h"

enum {
    FLOW_PAYLOAD = 1000,
    FLOW_PACKET_MAX = 40 + 20 + FLOW_PAYLOAD,
    FLOW_ETHERNET = 14,
    FLOW_OUR_PORT = 4000,
    FLOW_THEIR_PORT = 4001,
    FLOW_FIN = 1,
    FLOW_SYN = 2,
    FLOW_ACK = 16,
};

/* From 10.9.0.2 or fd09::2 to 10.9.0.1 or fd09::1. */
struct flow {
    int version;
    uint8_t protocol;
    uint16_t id;
    uint32_t sequence, acknowledgement;
};

/* The flow's next packet; returns its length. Every payload byte is `fill`. */
size_t flow_packet(struct flow *flow, uint8_t flags, size_t payload, int fill, uint8_t *packet);

struct writer {
    struct lane_memory lane;
    struct worker_thread worker;
    enum mode mode;
    uint8_t source; /* the last byte of the frames' source address, on a TAP device */
};

/* It may coalesce everything. */
void writer_open(struct writer *writer, enum mode mode, int device_fd);
void writer_close(struct writer *writer);
/* On a TAP device in a frame. Returns where the record's virtio_net_hdr is: plain. */
uint8_t *writer_put(struct writer *writer, const uint8_t *packet, size_t length);
/* `n` packets of the flow, filled with their numbers from `from` on; the one with the number `bad`
 * has a wrong bit. Returns the bytes of all. */
size_t writer_put_flow(struct writer *writer, struct flow *flow, int from, int n, int bad);
/* Runs the loop until the ring is empty. */
void writer_run(struct writer *writer);

uint64_t writer_calls(struct writer *writer, enum stats_call call);
uint64_t writer_counter(struct writer *writer, enum stats_counter counter);

#endif
