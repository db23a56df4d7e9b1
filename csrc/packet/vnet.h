/* vnet: the virtio_net_hdr before every frame of an IFF_VNET_HDR device.
 *
 *     0  flags u8          1  gso_type u8       2  hdr_len u16      4  gso_size u16
 *     6  csum_start u16    8  csum_offset u16  10  num_buffers u16 (unused)
 *
 * Little-endian (TUNSETVNETLE). A header that came over the network is untrusted input to the
 * kernel: it may name a checksum's place anywhere, and the kernel writes there. vnet_check is the
 * one place that decides what may pass: only what the packet's own headers say as well.
 *
 * What Linux 6.18 leaves to be completed, on a TUN with every offload (each case was tried):
 *
 *   TCP, also behind IPv4 options and IPv6 extension headers; UDP, and super-packets of both
 *   VXLAN over the device: the checksum of the packet inside, which then makes the outer one right
 *   nothing of raw sockets (IPV6_CHECKSUM), ICMPv6, UDP-Lite, fragments, UDP behind extension
 *   headers; nor of SCTP, whose CRC a TUN does not offer (skb_csum_hwoffload_help)
 *
 * Source: the virtio 1.2 specification 5.1.6, include/linux/virtio_net.h, drivers/net/tun_vnet.h.
 */
#ifndef FASTUN_PACKET_VNET_H
#define FASTUN_PACKET_VNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VNET_LENGTH = 12 };

enum {
    VNET_NEEDS_CSUM = 1,
    VNET_DATA_VALID = 2,
};

enum vnet_gso {
    VNET_GSO_NONE = 0,
    VNET_GSO_TCPV4 = 1,
    VNET_GSO_TCPV6 = 4,
    VNET_GSO_UDP_L4 = 5,
    VNET_GSO_ECN = 0x80, /* a bit beside TCPV4 or TCPV6 */
};

struct vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t ip_start; /* not in the header: where vnet_check found IP, behind any VLAN tags */
};

struct vnet vnet_read(const uint8_t bytes[VNET_LENGTH]);
void vnet_write(const struct vnet *vnet, uint8_t bytes[VNET_LENGTH]);

static inline bool vnet_is_plain(const struct vnet *vnet) {
    return (vnet->flags & VNET_NEEDS_CSUM) == 0 && vnet->gso_type == VNET_GSO_NONE;
}

/* Checks `vnet` against the frame it describes and puts hdr_len right (the kernel's own value can
 * be the whole first packet for a forwarded super-packet). `l3` is where the IP header starts: 0 on
 * a TUN device, 14 on a TAP, where two VLAN tags at most may be before it. Returns the number of
 * packets that the network will see (>= 1), or -1 when the header does not fit the frame: then its
 * checksum is not that of the TCP or UDP header that the frame's IP headers lead to, or its
 * gso_type is not theirs. IPv6 may have options and a routing header; no fragment has a checksum to
 * complete. A super-packet has the length in its IP header and is accepted by every kernel; whether
 * it would expand too much is checked elsewhere (amplification.h). */
int vnet_check(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3);

/* The same for what our own kernel handed over: since Linux 6.9 its super-packets may have more
 * segments of UDP than older ones take. */
int vnet_check_local(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3);

/* Whether a super-packet has more segments of UDP than vnet_check lets pass. `vnet` need not have
 * been checked. */
bool vnet_has_many_segments(const struct vnet *vnet, size_t length);

/* Completes the checksum that our own kernel left out, wherever it is, and makes `vnet` plain.
 * false: it is a super-packet's, or does not lie between an IP header at `l3` and the frame's
 * end. */
bool vnet_complete(struct vnet *vnet, uint8_t *frame, size_t length, size_t l3);

#endif
