#include "frames.h"

#include "packet/byteorder.h"

enum {
    TCP_HEADER = 20,
    UDP_HEADER = 8,
    TCP_CSUM_OFFSET = 16,
    UDP_CSUM_OFFSET = 6,
    /* Super-packets that go whole (amplification.h). */
    SUPER_LENGTH_MIN = 137,
    GSO_SIZE_MIN = 273,
};

static bool is_ipv6(enum frame_kind kind) {
    return kind == FRAME_IPV6 || kind == FRAME_TCP6_SUPER || kind == FRAME_UDP6_SUPER;
}

static bool is_udp(enum frame_kind kind) {
    return kind == FRAME_UDP4_SUPER || kind == FRAME_UDP6_SUPER;
}

static uint8_t gso_type(enum frame_kind kind) {
    switch (kind) {
    case FRAME_TCP4_SUPER:
        return VNET_GSO_TCPV4;
    case FRAME_TCP6_SUPER:
        return VNET_GSO_TCPV6;
    case FRAME_UDP4_SUPER:
    case FRAME_UDP6_SUPER:
        return VNET_GSO_UDP_L4;
    default:
        return VNET_GSO_NONE;
    }
}

/* Puts the IP version, IHL, length, no fragment and protocol at `l3`; returns where the transport
 * header begins. */
static size_t place_ip(uint8_t *packet, size_t length, size_t l3, enum frame_kind kind) {
    if (l3 != 0)
        be16_write(packet + l3 - 2, is_ipv6(kind) ? 0x86dd : 0x0800);
    packet[l3] = is_ipv6(kind) ? 0x60 : 0x45;
    be16_write(packet + l3 + (is_ipv6(kind) ? 4 : 2),
               (uint16_t)(length - l3 - (is_ipv6(kind) ? IPV6_HEADER_SIZE : 0)));
    if (!is_ipv6(kind))
        be16_write(packet + l3 + 6, 0);
    packet[l3 + (is_ipv6(kind) ? 6 : 9)] = is_udp(kind) ? 17 : 6;
    return l3 + (is_ipv6(kind) ? IPV6_HEADER_SIZE : IPV4_HEADER_SIZE);
}

void frame_make(struct frame *frame, struct random *random, enum mode mode, enum frame_kind kind,
                size_t length) {
    uint8_t *packet = frame->bytes + VNET_LENGTH;
    random_fill(random, packet, length);
    size_t transport = place_ip(packet, length, mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0, kind);
    struct vnet vnet = {0};
    frame->length = VNET_LENGTH + length;
    frame->n_packets = 1;
    if (kind >= FRAME_UNCHECKSUMMED) {
        vnet.flags = VNET_NEEDS_CSUM;
        vnet.csum_start = (uint16_t)transport;
        vnet.csum_offset = is_udp(kind) ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET;
        packet[transport + 12] = (TCP_HEADER / 4) << 4;
    }
    if (gso_type(kind) != VNET_GSO_NONE && length >= SUPER_LENGTH_MIN) {
        size_t header = transport + (is_udp(kind) ? UDP_HEADER : TCP_HEADER);
        size_t payload = length - header;
        size_t size_min = is_udp(kind) ? payload / 64 + 1 : 1; /* 64 segments at most */
        size_min = size_min < GSO_SIZE_MIN ? GSO_SIZE_MIN : size_min;
        vnet.gso_type = gso_type(kind);
        vnet.gso_size = (uint16_t)(size_min + random_below(random, 2000));
        vnet.hdr_len = (uint16_t)header;
        frame->n_packets = payload / vnet.gso_size + (payload % vnet.gso_size != 0);
    }
    vnet_write(&vnet, frame->bytes);
}

void frame_make_any(struct frame *frame, struct random *random, enum mode mode, size_t n_kinds,
                    size_t length_max) {
    enum frame_kind kind = (enum frame_kind)random_below(random, n_kinds);
    /* Mostly small, as traffic is; one in eight of any size. */
    size_t bound = random_below(random, 8) == 0 || length_max < 1500 ? length_max : 1500;
    frame_make(frame, random, mode, kind,
               FRAME_LENGTH_MIN + random_below(random, bound - FRAME_LENGTH_MIN + 1));
}
