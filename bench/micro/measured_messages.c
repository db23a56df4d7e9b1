/* Framing on a plain link: a frame as the device gives it becomes a message, and a frame again; the
 * check of its virtio_net_hdr alone; and the answer to a packet that is too long. */
#include "packet/icmp.h"
#include "measured_subjects.h"
#include "packet/encapsulation.h"

enum { PATH_MTU = 1280 };

static const struct link_format format = {
    .wire = WIRE_PLAIN,
    .mode = MODE_TUN,
    .super_outbound = 1,
    .super_inbound = 1,
    .message_max = MESSAGE_MAX,
};

static struct super_packet packet;
static uint8_t room[MESSAGE_HEADROOM + VNET_LENGTH + SUPER_PACKET_MAX];
static uint8_t *const vnet_bytes = room + MESSAGE_HEADROOM;
static struct message_outbound message;
static int n_packets;

static int encapsulate(void) {
    vnet_write(&packet.vnet, vnet_bytes);
    memcpy(vnet_bytes + VNET_LENGTH, packet.bytes, packet.length);
    return message_encapsulate(&format, vnet_bytes, packet.length, &message) == MESSAGE_OK ? 0 : -1;
}

int prepare_super(size_t size, int kind) {
    (void)size;
    make_tcp_super_packet(&packet, kind);
    n_packets = N_SEGMENTS;
    return encapsulate();
}

/* The first of the super-packet's packets. */
int prepare_packet(size_t size, int kind) {
    static struct super_packet whole;
    (void)size;
    make_tcp_super_packet(&whole, kind);
    packet = whole;
    packet.length = super_packet_segment(&whole, 0, packet.bytes);
    packet.vnet = (struct vnet){0};
    n_packets = 1;
    return encapsulate();
}

uint64_t run_encapsulate(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++) {
        enum message_fault fault =
            message_encapsulate(&format, vnet_bytes, packet.length, &message);
        message_prefix(&message);
        done += fault == MESSAGE_OK && message.n_packets == n_packets;
    }
    return done;
}

uint64_t run_decapsulate(uint64_t n) {
    struct message_inbound inbound;
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done +=
            message_decapsulate(&format, message.start, message.length, &inbound) == MESSAGE_OK &&
            inbound.length == packet.length;
    return done;
}

uint64_t run_vnet_check(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct vnet vnet = packet.vnet;
        done += vnet_check(&vnet, packet.bytes, packet.length, 0) == n_packets;
    }
    return done;
}

uint64_t run_icmp_too_big(uint64_t n) {
    uint8_t answer[ICMP_ANSWER_MAX];
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += icmp_too_big(packet.bytes, packet.length, PATH_MTU, answer, sizeof answer) > 0;
    return done;
}
