/* super_packet: super-packets of every shape, as a kernel hands them over; and their segments made
 * the long way, from the RFCs and without the code under test. */
#ifndef SUPER_PACKET_H
#define SUPER_PACKET_H

#include <stdbool.h>

#include "packet/byteorder.h"
#include "random.h"
#include "packet/vnet.h"

enum {
    SUPER_PACKET_MAX = 65535,
    SUPER_PACKET_FIN = 0x01,
    SUPER_PACKET_PSH = 0x08,
    SUPER_PACKET_ACK = 0x10,
    SUPER_PACKET_CWR = 0x80,
};

struct super_packet_shape {
    int version;
    bool is_udp, is_tap;
    size_t n_tags;        /* VLAN, on a TAP device */
    size_t ip_options;    /* bytes of IPv4 options, or of IPv6 extension headers; by 4, by 8 */
    size_t tcp_options;   /* bytes, by 4 */
    uint8_t tcp_flags;    /* of SUPER_PACKET_* */
    size_t size, payload; /* a segment's payload, and all of it */
};

struct super_packet {
    uint8_t bytes[SUPER_PACKET_MAX];
    size_t length;
    size_t l3, ip, transport, header; /* before tags, behind them, and on */
    struct vnet vnet;
};

/* -- sums -------------------------------------------------------------------------------------- */

/* Big-endian words, one by one, the carry brought in at once. */
static inline uint16_t naive_sum(uint16_t sum, const uint8_t *bytes, size_t length) {
    uint32_t wide = sum;
    for (size_t i = 0; i < length; i++) {
        wide += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
        wide = wide > 0xffff ? wide - 0xffff : wide;
    }
    return (uint16_t)wide;
}

static inline uint16_t naive_pseudo_header(const uint8_t *ip, uint8_t protocol, size_t length) {
    uint8_t rest[] = {0, protocol, (uint8_t)(length >> 8), (uint8_t)length};
    uint16_t sum = naive_sum(0, rest, sizeof rest);
    return ip[0] >> 4 == 4 ? naive_sum(sum, ip + 12, 8) : naive_sum(sum, ip + 8, 32);
}

static inline void naive_ip_checksum(uint8_t *ip) {
    be16_write(ip + 10, 0);
    be16_write(ip + 10, (uint16_t)~naive_sum(0, ip, (ip[0] & 15u) * 4u));
}

static inline bool super_packet_is_udp(const struct super_packet *packet) {
    return packet->vnet.gso_type == VNET_GSO_UDP_L4;
}

static inline uint8_t *super_packet_checksum(const struct super_packet *packet, uint8_t *bytes) {
    return bytes + packet->transport + (super_packet_is_udp(packet) ? 6 : 16);
}

/* The sum of the pseudo-header where the checksum is to be, as the kernel leaves it. */
static inline void super_packet_leave_sum(struct super_packet *packet) {
    be16_write(super_packet_checksum(packet, packet->bytes),
               naive_pseudo_header(packet->bytes + packet->ip, super_packet_is_udp(packet) ? 17 : 6,
                                   packet->length - packet->transport));
}

/* -- making ------------------------------------------------------------------------------------ */

static inline void super_packet_make_ethernet(struct super_packet *packet,
                                              const struct super_packet_shape *shape) {
    static const uint16_t tags[] = {0x88a8, 0x8100};
    uint8_t *type = packet->bytes + 12;
    packet->bytes[0] = 2; /* one station's address, and another's, set locally */
    packet->bytes[6] = 2;
    for (size_t i = 2 - shape->n_tags; i < 2; i++, type += 4) {
        be16_write(type, tags[i]);
        be16_write(type + 2, (uint16_t)(i + 1));
    }
    be16_write(type, shape->version == 4 ? 0x0800 : 0x86dd);
}

/* 10.9.0.2 to 10.10.0.2. */
static inline void super_packet_make_ipv4(const struct super_packet *packet, uint8_t *ip,
                                          const struct super_packet_shape *shape) {
    ip[0] = (uint8_t)(0x40 | (20 + shape->ip_options) / 4);
    be16_write(ip + 2, (uint16_t)(packet->length - packet->ip));
    be16_write(ip + 6, (uint16_t)(packet->bytes[packet->header] % 2 != 0 ? 0x4000 : 0));
    ip[8] = 64;
    ip[9] = shape->is_udp ? 17 : 6;
    memcpy(ip + 12, (uint8_t[]){10, 9, 0, 2, 10, 10, 0, 2}, 8);
    memset(ip + 20, 1 /* no operation */, shape->ip_options);
    naive_ip_checksum(ip);
}

/* fd09::2 to fd0a::2; hop-by-hop options, and behind the first 8 bytes destination options. */
static inline void super_packet_make_ipv6(const struct super_packet *packet, uint8_t *ip,
                                          const struct super_packet_shape *shape) {
    uint8_t upper = shape->is_udp ? 17 : 6;
    size_t rest = shape->ip_options;
    ip[0] = (uint8_t)(0x60 | (ip[0] & 15));
    be16_write(ip + 4, (uint16_t)(packet->length - packet->ip - 40));
    ip[6] = rest > 0 ? 0 : upper;
    ip[7] = 64;
    memcpy(ip + 8, (uint8_t[16]){0xfd, 9, [15] = 2}, 16);
    memcpy(ip + 24, (uint8_t[16]){0xfd, 0x0a, [15] = 2}, 16);
    for (uint8_t *at = ip + 40; rest > 0;) {
        size_t length = rest == shape->ip_options ? 8 : rest;
        rest -= length;
        memset(at, 0, length);
        at[0] = rest > 0 ? 60 : upper;
        at[1] = (uint8_t)(length / 8 - 1);
        at[2] = 1; /* PadN */
        at[3] = (uint8_t)(length - 4);
        at += length;
    }
}

static inline void super_packet_make_transport(const struct super_packet *packet, uint8_t *header,
                                               const struct super_packet_shape *shape) {
    if (shape->is_udp) {
        be16_write(header + 4, (uint16_t)(packet->length - packet->transport));
        return;
    }
    header[12] = (uint8_t)((20 + shape->tcp_options) / 4 << 4);
    header[13] = shape->tcp_flags;
}

/* What the shape does not say is noise. */
static inline void super_packet_make(struct super_packet *packet, struct random *random,
                                     const struct super_packet_shape *shape) {
    packet->l3 = shape->is_tap ? 14 : 0;
    packet->ip = packet->l3 + 4 * shape->n_tags;
    packet->transport = packet->ip + (shape->version == 4 ? 20 : 40) + shape->ip_options;
    packet->header = packet->transport + (shape->is_udp ? 8 : 20 + shape->tcp_options);
    packet->length = packet->header + shape->payload;
    random_fill(random, packet->bytes, packet->length);
    uint8_t *ip = packet->bytes + packet->ip;
    if (shape->is_tap)
        super_packet_make_ethernet(packet, shape);
    if (shape->version == 4)
        super_packet_make_ipv4(packet, ip, shape);
    else
        super_packet_make_ipv6(packet, ip, shape);
    super_packet_make_transport(packet, packet->bytes + packet->transport, shape);
    uint8_t tcp = shape->version == 4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
    packet->vnet = (struct vnet){
        .flags = VNET_NEEDS_CSUM,
        .gso_type = shape->is_udp ? VNET_GSO_UDP_L4 : tcp,
        .hdr_len = (uint16_t)packet->header,
        .gso_size = (uint16_t)shape->size,
        .csum_start = (uint16_t)packet->transport,
        .csum_offset = shape->is_udp ? 6 : 16,
    };
    super_packet_leave_sum(packet);
}

/* A kind of packet, with TCP's options; a size and a payload are the caller's to say. */
static inline struct super_packet_shape super_packet_any_kind(struct random *random) {
    struct super_packet_shape shape = {
        .version = random_below(random, 2) == 0 ? 4 : 6,
        .is_udp = random_below(random, 2) == 0,
        .is_tap = random_below(random, 2) == 0,
        .tcp_options = 4 * random_below(random, 11),
    };
    shape.n_tags = shape.is_tap ? random_below(random, 3) : 0;
    return shape;
}

/* -- disturbing -------------------------------------------------------------------------------- */

/* Cuts the frame, which goes on to say the length that it has. */
static inline void super_packet_cut(struct super_packet *packet, size_t length) {
    uint8_t *ip = packet->bytes + packet->ip;
    packet->length = length;
    if (ip[0] >> 4 == 4)
        be16_write(ip + 2, (uint16_t)(length - packet->ip));
    else
        be16_write(ip + 4, (uint16_t)(length - packet->ip - 40));
}

/* Makes one field wrong, or the frame shorter. */
static inline void super_packet_disturb(struct super_packet *packet, struct random *random) {
    struct vnet *vnet = &packet->vnet;
    switch (random_below(random, 6)) {
    case 0:
        vnet->csum_start = (uint16_t)random_below(random, packet->length);
        break;
    case 1:
        vnet->gso_size = (uint16_t)random_next(random);
        break;
    case 2:
        vnet->gso_type = (uint8_t)random_below(random, 6);
        break;
    case 3:
        if (packet->length > packet->header)
            super_packet_cut(packet, packet->header +
                                         random_below(random, packet->length - packet->header));
        break;
    case 4:
        packet->length = 1 + random_below(random, packet->length);
        break;
    default:
        packet->bytes[random_below(random, packet->header)] = (uint8_t)random_next(random);
        break;
    }
}

/* -- segments ---------------------------------------------------------------------------------- */

static inline size_t super_packet_n_segments(const struct super_packet *packet) {
    size_t n = 0;
    for (size_t at = packet->header; at < packet->length; at += packet->vnet.gso_size)
        n++;
    return n;
}

/* Writes segment `i` and returns its length. */
static inline size_t super_packet_segment(const struct super_packet *packet, size_t i,
                                          uint8_t *out) {
    size_t begin = packet->header + i * packet->vnet.gso_size, rest = packet->length - begin;
    bool is_last = rest <= packet->vnet.gso_size, is_udp = super_packet_is_udp(packet);
    size_t payload = is_last ? rest : packet->vnet.gso_size;
    uint8_t *ip = out + packet->ip, *transport = out + packet->transport;
    size_t length = packet->header + payload, transport_length = length - packet->transport;
    memcpy(out, packet->bytes, packet->header);
    memcpy(out + packet->header, packet->bytes + begin, payload);
    if (ip[0] >> 4 == 4) {
        be16_write(ip + 2, (uint16_t)(length - packet->ip));
        be16_write(ip + 4, (uint16_t)(be16_read(ip + 4) + i));
        naive_ip_checksum(ip);
    } else {
        be16_write(ip + 4, (uint16_t)(length - packet->ip - 40));
    }
    if (is_udp) {
        be16_write(transport + 4, (uint16_t)transport_length);
    } else {
        be32_write(transport + 4, be32_read(transport + 4) + (uint32_t)(begin - packet->header));
        transport[13] &= (uint8_t)(is_last ? 0xff : 0xff - SUPER_PACKET_FIN - SUPER_PACKET_PSH);
        transport[13] &= (uint8_t)(i == 0 ? 0xff : 0xff - SUPER_PACKET_CWR);
    }
    uint8_t *field = super_packet_checksum(packet, out);
    be16_write(field, 0);
    uint16_t pseudo = naive_pseudo_header(ip, is_udp ? 17 : 6, transport_length);
    uint16_t checksum = (uint16_t)~naive_sum(pseudo, transport, transport_length);
    be16_write(field, is_udp && checksum == 0 ? 0xffff : checksum);
    return length;
}

#endif
