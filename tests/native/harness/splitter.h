/* splitter: cuts a super-packet into the packets that the network would see, from the RFCs and
 * without csrc: the judge of what gro.c puts together. */
#ifndef SPLITTER_H
#define SPLITTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SPLIT_VNET = 12, SPLIT_TCP = 6, SPLIT_UDP = 17 };

static inline unsigned split_u16(const uint8_t *bytes) {
    return bytes[0] * 256u + bytes[1];
}

static inline void split_put_u16(uint8_t *bytes, size_t value) {
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* RFC 1071 the long way. */
static inline uint64_t split_sum(uint64_t sum, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
    return sum;
}

static inline unsigned split_fold(uint64_t sum) {
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (unsigned)sum;
}

/* -- a packet without options or extensions ---------------------------------------------------- */

static inline size_t split_transport(const uint8_t *ip) {
    return ip[0] >> 4 == 4 ? 20 : 40;
}

static inline unsigned split_protocol(const uint8_t *ip) {
    return ip[ip[0] >> 4 == 4 ? 9 : 6];
}

static inline size_t split_header(const uint8_t *ip) {
    size_t transport = split_transport(ip);
    return transport + (split_protocol(ip) == SPLIT_UDP ? 8u : (ip[transport + 12] >> 4) * 4u);
}

static inline uint8_t *split_checksum_place(uint8_t *ip) {
    return ip + split_transport(ip) + (split_protocol(ip) == SPLIT_UDP ? 6 : 16);
}

static inline uint64_t split_pseudo_sum(const uint8_t *ip, size_t transport_length) {
    uint64_t sum = split_protocol(ip) + transport_length;
    return ip[0] >> 4 == 4 ? split_sum(sum, ip + 12, 8) : split_sum(sum, ip + 8, 32);
}

static inline bool split_has_right_checksums(const uint8_t *ip, size_t length) {
    size_t transport = split_transport(ip);
    if (transport == 20 && split_fold(split_sum(0, ip, 20)) != 0xffff)
        return false;
    uint64_t sum = split_pseudo_sum(ip, length - transport);
    return split_fold(split_sum(sum, ip + transport, length - transport)) == 0xffff;
}

/* Lengths and checksums as they must be. */
static inline void split_complete(uint8_t *ip, size_t length) {
    size_t transport = split_transport(ip);
    if (transport == 20) {
        split_put_u16(ip + 2, length);
        split_put_u16(ip + 10, 0);
        split_put_u16(ip + 10, split_fold(split_sum(0, ip, 20)) ^ 0xffff);
    } else {
        split_put_u16(ip + 4, length - 40);
    }
    uint8_t *place = split_checksum_place(ip);
    if (split_protocol(ip) == SPLIT_UDP)
        split_put_u16(ip + transport + 4, length - transport);
    split_put_u16(place, 0);
    uint64_t sum = split_pseudo_sum(ip, length - transport);
    unsigned checksum = split_fold(split_sum(sum, ip + transport, length - transport)) ^ 0xffff;
    split_put_u16(place, checksum == 0 && split_protocol(ip) == SPLIT_UDP ? 0xffff : checksum);
}

/* -- a super-packet ---------------------------------------------------------------------------- */

/* What is wrong with the frame, virtio_net_hdr included; NULL when nothing is. */
static inline const char *split_fault(const uint8_t *frame, size_t frame_length) {
    const uint8_t *ip = frame + SPLIT_VNET;
    size_t length = frame_length - SPLIT_VNET, transport = split_transport(ip);
    bool is_udp = split_protocol(ip) == SPLIT_UDP, is_ipv4 = transport == 20;
    unsigned gso_type = is_udp ? 5 : is_ipv4 ? 1 : 4;
    if (frame[0] != 1 || frame[1] != gso_type)
        return "flags or gso_type";
    if (frame[2] != split_header(ip) || frame[3] != 0)
        return "hdr_len";
    if (frame[6] != transport || frame[7] != 0 || frame[8] != (is_udp ? 6 : 16) || frame[9] != 0)
        return "csum_start or csum_offset";
    if (is_ipv4 ? split_u16(ip + 2) != length : split_u16(ip + 4) != length - 40)
        return "IP length";
    if (is_ipv4 && split_fold(split_sum(0, ip, 20)) != 0xffff)
        return "IPv4 header checksum";
    if (is_udp && split_u16(ip + transport + 4) != length - transport)
        return "UDP length";
    const uint8_t *sum = split_checksum_place((uint8_t *)(uintptr_t)ip);
    if (split_u16(sum) != split_fold(split_pseudo_sum(ip, length - transport)))
        return "pseudo-header sum";
    return NULL;
}

/* Writes the i-th packet (from 0) and returns its length; 0 when there is none. `id_step` is what
 * is added to the IPv4 id from packet to packet: 1 in the kernel. */
static inline size_t split_packet(const uint8_t *frame, size_t frame_length, size_t i,
                                  unsigned id_step, uint8_t *packet) {
    const uint8_t *ip = frame + SPLIT_VNET;
    size_t gso_size = frame[4] + frame[5] * 256u, header = split_header(ip);
    size_t transport = split_transport(ip), total = frame_length - SPLIT_VNET - header;
    if (i * gso_size >= total)
        return 0;
    size_t payload = total - i * gso_size < gso_size ? total - i * gso_size : gso_size;
    memcpy(packet, ip, header);
    memcpy(packet + header, ip + header + i * gso_size, payload);
    if (transport == 20)
        split_put_u16(packet + 4, split_u16(ip + 4) + i * id_step);
    if (split_protocol(ip) == SPLIT_TCP) {
        size_t low = split_u16(ip + transport + 6) + i * gso_size;
        split_put_u16(packet + transport + 6, low);
        split_put_u16(packet + transport + 4, split_u16(ip + transport + 4) + (low >> 16));
        if ((i + 1) * gso_size < total)
            packet[transport + 13] &= (uint8_t)~0x09; /* FIN and PSH are the last one's */
    }
    split_complete(packet, header + payload);
    return header + payload;
}

#endif
