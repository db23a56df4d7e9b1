/* What all segments have in common is looked at and summed once, in gso_split_begin; per segment
 * only what differs is: lengths, IPv4 identification, TCP sequence number and flags, payload. The
 * payload is summed in the pass that copies it: 50 ns for 1,368 bytes, against 70 in two passes
 * (bench/micro/gso_split.c).
 *
 * As the kernel does it: the identification counts up with every segment, also with DF and for UDP;
 * FIN and PSH belong to the last segment, CWR to the first. */
#include "gso.h"

#include <arpa/inet.h>
#include <string.h>

#include "byteorder.h"
#include "checksum.h"

enum {
    VLAN_TAG = 4,
    VLAN_TAGS_MAX = 2,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_SERVICE_VLAN = 0x88a8,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,

    IPV4_HEADER_MIN = 20,
    IPV4_LENGTH = 2, /* where the fields stand */
    IPV4_IDENTIFICATION = 4,
    IPV4_FRAGMENT = 6,
    IPV4_PROTOCOL = 9,
    IPV4_CHECKSUM = 10,
    IPV4_IS_FRAGMENT = 0x3fff, /* more to come, or not the first */

    IPV6_HEADER = 40,
    IPV6_LENGTH = 4,
    IPV6_NEXT_HEADER = 6,
    EXTENSION_HOP_BY_HOP = 0,
    EXTENSION_ROUTING = 43,
    EXTENSION_DESTINATION = 60,

    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    TCP_HEADER_MIN = 20,
    TCP_SEQUENCE = 4,
    TCP_OFFSET_AND_FLAGS = 12,
    TCP_FLAGS = 13,
    TCP_FIN = 0x01,
    TCP_PSH = 0x08,
    TCP_CWR = 0x80,
    UDP_HEADER = 8,
    UDP_LENGTH = 4,
};

/* -- the headers ------------------------------------------------------------------------------- */

/* Behind the VLAN tags; 0 when IP of the version that stands there is not what they announce. The
 * tags, 8 bytes, are inside the frame: vnet_check found the transport's header behind 20. */
static size_t find_ip(const uint8_t *frame, size_t l3) {
    size_t ip = l3;
    unsigned type = be16_read(frame + ip - 2);
    for (int i = 0; i < VLAN_TAGS_MAX; i++)
        if (type == ETHERTYPE_VLAN || type == ETHERTYPE_SERVICE_VLAN) {
            ip += VLAN_TAG;
            type = be16_read(frame + ip - 2);
        }
    unsigned version = frame[ip] >> 4;
    return type == (version == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6) ? ip : 0;
}

static bool may_cut4(const uint8_t *ip, size_t header_length, uint8_t protocol) {
    return header_length >= IPV4_HEADER_MIN && header_length == (ip[0] & 15u) * 4u &&
           ip[IPV4_PROTOCOL] == protocol && (be16_read(ip + IPV4_FRAGMENT) & IPV4_IS_FRAGMENT) == 0;
}

/* Walks the extension headers: the transport's must follow the last of them. */
static bool may_cut6(const uint8_t *ip, size_t header_length, uint8_t protocol) {
    size_t at = IPV6_HEADER;
    if (be16_read(ip + IPV6_LENGTH) == 0)
        return false;
    uint8_t type = ip[IPV6_NEXT_HEADER];
    while (at + 8 <= header_length && (type == EXTENSION_HOP_BY_HOP || type == EXTENSION_ROUTING ||
                                       type == EXTENSION_DESTINATION)) {
        type = ip[at];
        at += 8 + ip[at + 1] * 8u;
    }
    return at == header_length && type == protocol;
}

static bool find_headers(struct gso_split *split, const struct vnet *vnet, size_t l3) {
    const uint8_t *frame = split->frame;
    bool is_udp = vnet->gso_type == VNET_GSO_UDP_L4;
    uint8_t protocol = is_udp ? PROTOCOL_UDP : PROTOCOL_TCP;
    /* vnet_check's 16 bits for it wrap where an Ethernet frame is longer than they can say. */
    if (vnet->hdr_len < split->transport + (is_udp ? UDP_HEADER : TCP_HEADER_MIN))
        return false;
    if (l3 != 0 && (l3 = find_ip(frame, l3)) == 0)
        return false;
    unsigned version = frame[l3] >> 4, gso_type = vnet->gso_type & ~(unsigned)VNET_GSO_ECN;
    if (!is_udp && version != (gso_type == VNET_GSO_TCPV4 ? 4 : 6))
        return false;
    split->ip = l3;
    split->is_ipv4 = version == 4;
    if (version == 4)
        return may_cut4(frame + l3, split->transport - l3, protocol);
    return version == 6 && may_cut6(frame + l3, split->transport - l3, protocol);
}

/* -- what the segments have in common ---------------------------------------------------------- */

static uint16_t word_at(const uint8_t *bytes) {
    uint16_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* What takes the word at `bytes` out of a sum. */
static uint16_t without(const uint8_t *bytes) {
    return (uint16_t)~word_at(bytes);
}

static uint64_t common_ip_sum(const uint8_t *ip, size_t header_length) {
    return checksum_add(0, ip, header_length) + without(ip + IPV4_LENGTH) +
           without(ip + IPV4_IDENTIFICATION) + without(ip + IPV4_CHECKSUM);
}

/* The checksum field counts as it is: it holds the pseudo-header's sum, with the whole length. */
static uint64_t common_transport_sum(const struct gso_split *split) {
    const uint8_t *header = split->frame + split->transport;
    uint64_t sum = checksum_add(0, header, split->header_length - split->transport);
    sum += ~htonl((uint32_t)(split->length - split->transport));
    if (split->kind == GSO_UDP)
        return sum + without(header + UDP_LENGTH);
    return sum + without(header + TCP_SEQUENCE) + without(header + TCP_SEQUENCE + 2) +
           without(header + TCP_OFFSET_AND_FLAGS);
}

static int begin_super_packet(struct gso_split *split, const struct vnet *vnet, size_t l3) {
    if (!find_headers(split, vnet, l3))
        return -1;
    split->kind = vnet->gso_type == VNET_GSO_UDP_L4 ? GSO_UDP : GSO_TCP;
    split->header_length = vnet->hdr_len;
    split->payload_max = vnet->gso_size;
    size_t payload = split->length - split->header_length;
    split->n_segments = (int)((payload + split->payload_max - 1) / split->payload_max);
    if (split->is_ipv4)
        split->ip_sum = common_ip_sum(split->frame + split->ip, split->transport - split->ip);
    split->transport_sum = common_transport_sum(split);
    return split->n_segments;
}

int gso_split_begin(struct gso_split *split, const struct vnet *vnet, const uint8_t *frame,
                    size_t length, size_t l3) {
    *split = (struct gso_split){
        .frame = frame, .length = length, .payload_max = length, .n_segments = 1};
    if ((vnet->flags & VNET_NEEDS_CSUM) == 0)
        return split->n_segments;
    split->transport = vnet->csum_start;
    split->checksum = (size_t)vnet->csum_start + vnet->csum_offset;
    if (vnet->gso_type != VNET_GSO_NONE)
        return begin_super_packet(split, vnet, l3);
    split->kind = GSO_UNCHECKSUMMED;
    split->header_length = split->transport;
    return split->n_segments;
}

/* -- a segment --------------------------------------------------------------------------------- */

static void write_ip(const struct gso_split *split, int i, size_t length, uint8_t *ip) {
    if (!split->is_ipv4) {
        be16_write(ip + IPV6_LENGTH, (uint16_t)(length - IPV6_HEADER));
        return;
    }
    be16_write(ip + IPV4_LENGTH, (uint16_t)length);
    uint16_t first = be16_read(split->frame + split->ip + IPV4_IDENTIFICATION);
    be16_write(ip + IPV4_IDENTIFICATION, (uint16_t)(first + i));
    checksum_write(ip + IPV4_CHECKSUM,
                   split->ip_sum + word_at(ip + IPV4_LENGTH) + word_at(ip + IPV4_IDENTIFICATION));
}

/* Both return the sum of what stands in front of the payload, the pseudo-header included. */
static uint64_t write_tcp(const struct gso_split *split, int i, size_t length, uint8_t *tcp) {
    uint32_t first = be32_read(split->frame + split->transport + TCP_SEQUENCE);
    be32_write(tcp + TCP_SEQUENCE, first + (uint32_t)i * (uint32_t)split->payload_max);
    if (i < split->n_segments - 1)
        tcp[TCP_FLAGS] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    if (i > 0)
        tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
    return split->transport_sum + word_at(tcp + TCP_SEQUENCE) + word_at(tcp + TCP_SEQUENCE + 2) +
           word_at(tcp + TCP_OFFSET_AND_FLAGS) + htonl((uint32_t)length);
}

static uint64_t write_udp(const struct gso_split *split, size_t length, uint8_t *udp) {
    be16_write(udp + UDP_LENGTH, (uint16_t)length);
    return split->transport_sum + word_at(udp + UDP_LENGTH) + htonl((uint32_t)length);
}

void gso_write_segment(const struct gso_split *split, int i, uint8_t *out) {
    size_t length = gso_segment_length(split, i), header = split->header_length;
    const uint8_t *payload = split->frame + header + (size_t)i * split->payload_max;
    uint64_t sum = 0;
    memcpy(out, split->frame, header);
    if (split->kind == GSO_WHOLE) {
        memcpy(out, payload, length);
        return;
    }
    if (split->kind != GSO_UNCHECKSUMMED)
        write_ip(split, i, length - split->ip, out + split->ip);
    if (split->kind == GSO_TCP)
        sum = write_tcp(split, i, length - split->transport, out + split->transport);
    else if (split->kind == GSO_UDP)
        sum = write_udp(split, length - split->transport, out + split->transport);
    sum = checksum_add_and_copy(sum, payload, length - header, out + header);
    checksum_write(out + split->checksum, sum);
    /* 0 would say that a UDP datagram has no checksum; elsewhere both zeros are equal, and only for
     * the segments of TCP does the kernel not take the other (skb_checksum_help). */
    if (split->kind != GSO_TCP && word_at(out + split->checksum) == 0)
        be16_write(out + split->checksum, 0xffff);
}
