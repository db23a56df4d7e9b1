#include "packet/vnet.h"

#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/headers.h"

enum {
    /* Options, a routing header and options again (RFC 8200 4.1): all that may be before TCP or
     * UDP whose checksum is left to be completed. */
    EXTENSIONS_BEFORE_CHECKSUM_MAX = 4,
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
    bool is_ipv4, is_udp;
};

/* false: there is no whole header of TCP or UDP, or it may have no checksum to complete. */
static bool find_headers(struct headers *headers, const uint8_t *frame, size_t length, size_t l3) {
    headers->ip = l3 == 0 ? 0 : ethernet_find_ip(frame, length);
    if (l3 != 0 && headers->ip == 0)
        return false;
    size_t left = length - headers->ip;
    struct ip_headers ip = ip_walk(frame + headers->ip, left);
    headers->transport = headers->ip + ip.transport;
    headers->is_udp = ip.protocol == PROTOCOL_UDP;
    if (ip.transport == 0 || ip.is_fragment || ip.is_authenticated ||
        ip.n_extensions > EXTENSIONS_BEFORE_CHECKSUM_MAX)
        return false;
    headers->is_ipv4 = ip_version(frame + headers->ip) == 4;
    return (headers->is_udp || ip.protocol == PROTOCOL_TCP) &&
           ip.transport + (headers->is_udp ? UDP_HEADER_SIZE : TCP_HEADER_SIZE) <= left;
}

/* -- the check --------------------------------------------------------------------------------- */

static bool checksum_matches(const struct vnet *vnet, const struct headers *headers) {
    return vnet->csum_start == headers->transport &&
           vnet->csum_offset == (headers->is_udp ? UDP_CHECKSUM_OFFSET : TCP_CHECKSUM_OFFSET);
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
        return headers->transport + UDP_HEADER_SIZE;
    size_t tcp_header = tcp_header_length(frame + headers->transport);
    return tcp_header < TCP_HEADER_SIZE ? 0 : headers->transport + tcp_header;
}

static int count_segments(struct vnet *vnet, const struct headers *headers, const uint8_t *frame,
                          size_t length) {
    size_t header = header_length(headers, frame);
    if (!is_their_type(vnet, headers) ||
        ip_packet_length(frame + headers->ip) != length - headers->ip)
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
           length > vnet->csum_start + UDP_HEADER_SIZE + payload_max;
}

int vnet_check(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3) {
    return vnet_has_many_segments(vnet, length) ? -1 : vnet_check_local(vnet, frame, length, l3);
}

bool vnet_complete(struct vnet *vnet, uint8_t *frame, size_t length, size_t l3) {
    size_t start = vnet->csum_start, field = start + vnet->csum_offset;
    if (vnet->flags != VNET_NEEDS_CSUM || vnet->gso_type != VNET_GSO_NONE)
        return false;
    if (start < l3 + IPV4_HEADER_SIZE || field + 2 > length)
        return false;
    /* 0 would say that a UDP datagram has no checksum; elsewhere both zeros are equal. */
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, frame + start, length - start));
    sum = sum == 0 ? 0xffff : sum;
    memcpy(frame + field, &sum, sizeof sum);
    *vnet = (struct vnet){0};
    return true;
}
