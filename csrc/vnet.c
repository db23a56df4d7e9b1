#include "vnet.h"

#include "byteorder.h"

enum {
    TCP_CSUM_OFFSET = 16,
    UDP_CSUM_OFFSET = 6,
    TCP_HEADER_MIN = 20,
    UDP_HEADER = 8,
    IPV4_HEADER_MIN = 20,
    IPV6_HEADER = 40,
    /* The least TCP payload a Linux sender ever cuts (TCP_MIN_SND_MSS less the longest options).
     * Without it one message of 64 KiB could ask the receiving kernel for 65,000 packets. */
    TCP_GSO_SIZE_MIN = 8,
    /* Inside the kernel this gso_size means something else, so it refuses it from outside. */
    GSO_BY_FRAGS = 0xffff,
    /* UDP_MAX_SEGMENTS of the kernels before 6.9; later ones take 128. */
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

/* The transport header begins behind an IP header of the version that gso_type names. */
static bool is_after_ip_header(const struct vnet *vnet, const uint8_t *frame, size_t length,
                               size_t l3) {
    if (length <= l3)
        return false;
    unsigned gso_type = vnet->gso_type & ~(unsigned)VNET_GSO_ECN;
    if (l3 != 0) /* Ethernet: VLAN tags may stand before the IP header; the kernel dissects them */
        return vnet->csum_start >=
               l3 + (gso_type == VNET_GSO_TCPV6 ? IPV6_HEADER : IPV4_HEADER_MIN);
    unsigned version = frame[0] >> 4;
    switch (gso_type) {
    case VNET_GSO_TCPV4:
        return version == 4 && vnet->csum_start >= IPV4_HEADER_MIN &&
               vnet->csum_start == (frame[0] & 15u) * 4u;
    case VNET_GSO_TCPV6:
        return version == 6 && vnet->csum_start >= IPV6_HEADER;
    default:
        return vnet->csum_start >= (version == 4 ? IPV4_HEADER_MIN : IPV6_HEADER);
    }
}

/* Bytes up to the payload, or 0 when the frame does not hold a whole transport header. */
static size_t header_length(const struct vnet *vnet, const uint8_t *frame, size_t length) {
    size_t transport = vnet->csum_start;
    if (vnet->gso_type == VNET_GSO_UDP_L4)
        return transport + UDP_HEADER <= length ? transport + UDP_HEADER : 0;
    if (transport + TCP_HEADER_MIN > length)
        return 0;
    size_t tcp_header = (frame[transport + 12] >> 4) * 4u;
    if (tcp_header < TCP_HEADER_MIN || transport + tcp_header > length)
        return 0;
    return transport + tcp_header;
}

static int count_segments(struct vnet *vnet, const uint8_t *frame, size_t length) {
    bool is_udp = vnet->gso_type == VNET_GSO_UDP_L4;
    size_t header = header_length(vnet, frame, length);
    if (header == 0 || header >= length)
        return -1;
    if (vnet->csum_offset != (is_udp ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET))
        return -1;
    if (vnet->gso_size < (is_udp ? 1 : TCP_GSO_SIZE_MIN) || vnet->gso_size == GSO_BY_FRAGS)
        return -1;
    size_t n_segments = (length - header + vnet->gso_size - 1) / vnet->gso_size;
    if (is_udp && n_segments > UDP_SEGMENTS_MAX)
        return -1;
    vnet->hdr_len = (uint16_t)header;
    return (int)n_segments;
}

int vnet_check(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3) {
    if ((vnet->flags & ~VNET_NEEDS_CSUM) != 0)
        return -1;
    if ((vnet->flags & VNET_NEEDS_CSUM) != 0 &&
        ((size_t)vnet->csum_start + vnet->csum_offset + 2 > length ||
         !is_after_ip_header(vnet, frame, length, l3)))
        return -1;
    switch (vnet->gso_type) {
    case VNET_GSO_NONE:
        vnet->hdr_len = 0;
        vnet->gso_size = 0;
        return 1;
    case VNET_GSO_TCPV4:
    case VNET_GSO_TCPV6:
    case VNET_GSO_TCPV4 | VNET_GSO_ECN:
    case VNET_GSO_TCPV6 | VNET_GSO_ECN:
    case VNET_GSO_UDP_L4:
        /* A super-packet whose checksum is said to be complete: no kernel makes one. */
        return (vnet->flags & VNET_NEEDS_CSUM) != 0 ? count_segments(vnet, frame, length) : -1;
    default:
        return -1;
    }
}
