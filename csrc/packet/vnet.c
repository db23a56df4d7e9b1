#include "packet/vnet.h"

#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"

enum {
    VLAN_TAG = 4,
    VLAN_TAGS_MAX = 2,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_SERVICE_VLAN = 0x88a8,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,

    IPV4_HEADER_MIN = 20,
    IPV4_LENGTH = 2, /* where the fields stand */
    IPV4_FRAGMENT = 6,
    IPV4_PROTOCOL = 9,
    IPV4_IS_FRAGMENT = 0x3fff, /* more to come, or not the first */

    IPV6_HEADER = 40,
    IPV6_LENGTH = 4,
    IPV6_NEXT_HEADER = 6,
    EXTENSION_HEADER_MIN = 8,
    EXTENSION_HOP_BY_HOP = 0,
    EXTENSION_ROUTING = 43,
    EXTENSION_DESTINATION = 60,
    /* Hop-by-hop options, destination options, a routing header, destination options again
     * (RFC 8200 4.1). So no header ends behind what 16 bits can say. */
    EXTENSION_HEADERS_MAX = 4,

    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    TCP_CSUM_OFFSET = 16,
    UDP_CSUM_OFFSET = 6,
    TCP_HEADER_MIN = 20,
    UDP_HEADER = 8,
    /* Inside the kernel this gso_size means something else, so it refuses it from outside. */
    GSO_BY_FRAGS = 0xffff,
    /* UDP_MAX_SEGMENTS of the kernels before 6.9; later ones make and take 128. */
    UDP_SEGMENTS_MAX = 64,
};

struct vnet vnet_read(const uint8_t bytes[VNET_LENGTH]) {
    return (struct vnet){
        .flags = bytes[0],
        .gso_type = bytes[1],
        .hdr_len = le16_read(bytes + 2),
        .gso_size = le16_read(bytes + 4),
        .csum_start = le16_read(bytes + 6),
        .csum_offset = le16_read(bytes + 8),
    };
}

void vnet_write(const struct vnet *vnet, uint8_t bytes[VNET_LENGTH]) {
    bytes[0] = vnet->flags;
    bytes[1] = vnet->gso_type;
    le16_write(bytes + 2, vnet->hdr_len);
    le16_write(bytes + 4, vnet->gso_size);
    le16_write(bytes + 6, vnet->csum_start);
    le16_write(bytes + 8, vnet->csum_offset);
    le16_write(bytes + 10, 0);
}

/* -- what the packet's own headers say --------------------------------------------------------- */

struct headers {
    size_t ip, transport; /* where they begin */
    size_t ip_length;     /* of the packet, by its own word */
    bool is_ipv4, is_udp;
};

static bool is_vlan(unsigned type) {
    return type == ETHERTYPE_VLAN || type == ETHERTYPE_SERVICE_VLAN;
}

/* Behind the VLAN tags stands IP, of the version that they announce. A frame with the shortest IP
 * header has 12 bytes more than the tags: all that is read of it before the transport's is found to
 * be whole. */
static bool find_ip(struct headers *headers, const uint8_t *frame, size_t length, size_t l3) {
    headers->ip = l3;
    if (l3 + IPV4_HEADER_MIN > length)
        return false;
    if (l3 != 0) {
        unsigned type = be16_read(frame + l3 - 2);
        for (int i = 0; i < VLAN_TAGS_MAX && is_vlan(type); i++) {
            headers->ip += VLAN_TAG;
            type = be16_read(frame + headers->ip - 2);
        }
        unsigned announced = frame[headers->ip] >> 4 == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
        if (type != announced)
            return false;
    }
    headers->is_ipv4 = frame[headers->ip] >> 4 == 4;
    return headers->is_ipv4 || frame[headers->ip] >> 4 == 6;
}

/* Both return the bytes up to the transport's header and its protocol; 0: there is none. */
static size_t walk_ipv4(const uint8_t *ip, uint8_t *protocol) {
    size_t header = (ip[0] & 15u) * 4u;
    bool is_fragment = (be16_read(ip + IPV4_FRAGMENT) & IPV4_IS_FRAGMENT) != 0;
    *protocol = ip[IPV4_PROTOCOL];
    return header >= IPV4_HEADER_MIN && !is_fragment ? header : 0;
}

static bool is_extension(uint8_t type) {
    return type == EXTENSION_HOP_BY_HOP || type == EXTENSION_ROUTING ||
           type == EXTENSION_DESTINATION;
}

static size_t walk_ipv6(const uint8_t *ip, size_t length, uint8_t *protocol) {
    size_t at = IPV6_HEADER;
    *protocol = ip[IPV6_NEXT_HEADER];
    for (int i = 0; i < EXTENSION_HEADERS_MAX && is_extension(*protocol); i++) {
        if (at + EXTENSION_HEADER_MIN > length)
            return 0;
        *protocol = ip[at];
        at += EXTENSION_HEADER_MIN + ip[at + 1] * 8u;
    }
    return at;
}

/* false: there is no whole header of TCP or UDP. */
static bool find_headers(struct headers *headers, const uint8_t *frame, size_t length, size_t l3) {
    if (!find_ip(headers, frame, length, l3))
        return false;
    const uint8_t *ip = frame + headers->ip;
    size_t left = length - headers->ip, header;
    uint8_t protocol;
    if (headers->is_ipv4) {
        header = walk_ipv4(ip, &protocol);
        headers->ip_length = be16_read(ip + IPV4_LENGTH);
    } else {
        header = walk_ipv6(ip, left, &protocol);
        headers->ip_length = IPV6_HEADER + (size_t)be16_read(ip + IPV6_LENGTH);
    }
    headers->transport = headers->ip + header;
    headers->is_udp = protocol == PROTOCOL_UDP;
    if (header == 0 || (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP))
        return false;
    return header + (headers->is_udp ? UDP_HEADER : TCP_HEADER_MIN) <= left;
}

/* -- the check --------------------------------------------------------------------------------- */

static bool checksum_matches(const struct vnet *vnet, const struct headers *headers) {
    return vnet->csum_start == headers->transport &&
           vnet->csum_offset == (headers->is_udp ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET);
}

static bool is_their_type(const struct vnet *vnet, const struct headers *headers) {
    if (headers->is_udp)
        return vnet->gso_type == VNET_GSO_UDP_L4;
    return (vnet->gso_type & ~(unsigned)VNET_GSO_ECN) ==
           (headers->is_ipv4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6);
}

/* Bytes up to the payload. */
static size_t header_length(const struct headers *headers, const uint8_t *frame) {
    if (headers->is_udp)
        return headers->transport + UDP_HEADER;
    size_t tcp_header = (frame[headers->transport + 12] >> 4) * 4u;
    return tcp_header < TCP_HEADER_MIN ? 0 : headers->transport + tcp_header;
}

static int count_segments(struct vnet *vnet, const struct headers *headers, const uint8_t *frame,
                          size_t length) {
    size_t header = header_length(headers, frame);
    if (!is_their_type(vnet, headers) || headers->ip_length != length - headers->ip)
        return -1;
    if (header == 0 || header >= length)
        return -1;
    if (vnet->gso_size == 0 || vnet->gso_size == GSO_BY_FRAGS)
        return -1;
    vnet->hdr_len = (uint16_t)header;
    return (int)((length - header + vnet->gso_size - 1) / vnet->gso_size);
}

static int take_single(struct vnet *vnet) {
    vnet->hdr_len = 0;
    vnet->gso_size = 0;
    return 1;
}

int vnet_check_local(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3) {
    bool is_super = vnet->gso_type != VNET_GSO_NONE;
    struct headers headers;
    if (vnet->flags == 0 && !is_super)
        return take_single(vnet);
    /* No kernel makes a super-packet whose checksum is said to be complete. */
    if (vnet->flags != VNET_NEEDS_CSUM || !find_headers(&headers, frame, length, l3) ||
        !checksum_matches(vnet, &headers))
        return -1;
    vnet->ip_start = (uint16_t)headers.ip;
    return is_super ? count_segments(vnet, &headers, frame, length) : take_single(vnet);
}

bool vnet_has_many_segments(const struct vnet *vnet, size_t length) {
    size_t payload_max = UDP_SEGMENTS_MAX * (size_t)vnet->gso_size;
    return vnet->gso_type == VNET_GSO_UDP_L4 &&
           length > vnet->csum_start + UDP_HEADER + payload_max;
}

int vnet_check(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3) {
    return vnet_has_many_segments(vnet, length) ? -1 : vnet_check_local(vnet, frame, length, l3);
}

bool vnet_complete(struct vnet *vnet, uint8_t *frame, size_t length, size_t l3) {
    size_t start = vnet->csum_start, field = start + vnet->csum_offset;
    if (vnet->flags != VNET_NEEDS_CSUM || vnet->gso_type != VNET_GSO_NONE)
        return false;
    if (start < l3 + IPV4_HEADER_MIN || field + 2 > length)
        return false;
    /* 0 would say that a UDP datagram has no checksum; elsewhere both zeros are equal. */
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, frame + start, length - start));
    sum = sum == 0 ? 0xffff : sum;
    memcpy(frame + field, &sum, sizeof sum);
    *vnet = (struct vnet){0};
    return true;
}
