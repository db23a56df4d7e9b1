/* headers: what Ethernet, IPv4, IPv6, TCP, UDP and ICMP headers look like, and the walk over them.
 *
 * The only place that knows where their fields are: ..._OFFSET is counted from the beginning of the
 * header that names it, ..._SIZE and ..._LENGTH are bytes. Fields of more than one byte are
 * big-endian (byteorder.h).
 *
 * ip_walk leads from the beginning of an IP header to the transport header. It reads nothing behind
 * `length`, so it is safe for what the network sent. It judges nothing: which fragments, options
 * and protocols are acceptable is for the caller to say. IPv4, and IPv6 without extension headers,
 * are inlined into each caller, since the data path asks for every packet.
 *
 * Source: IEEE 802.1Q, RFC 791, RFC 792, RFC 8200, RFC 4302, RFC 4443, RFC 9293, RFC 768.
 */
#ifndef FASTUN_PACKET_HEADERS_H
#define FASTUN_PACKET_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/byteorder.h"

/* -- Ethernet ---------------------------------------------------------------------------------- */

enum {
    ETHERNET_HEADER_SIZE = 14, /* without VLAN tags */
    ETHERNET_TYPE_SIZE = 2,    /* the last field, in front of what the frame carries */
    VLAN_TAG_SIZE = 4,         /* before the type; its own type is in the type's place */
    VLAN_TAGS_MAX = 2,
    VLAN_ID_OFFSET = 14, /* in a tagged frame; 4 bits of priority before it */
    VLAN_ID_MASK = 0x0fff,

    MAC_SIZE = 6, /* the destination's begins the frame */
    MAC_SOURCE_OFFSET = 6,
    MAC_GROUP_BIT = 1, /* of an address's first byte: broadcast or multicast */

    ETHERNET_TYPE_IPV4 = 0x0800,
    ETHERNET_TYPE_IPV6 = 0x86dd,
    ETHERNET_TYPE_VLAN = 0x8100,
    ETHERNET_TYPE_SERVICE_VLAN = 0x88a8,
};

/* -- IP ---------------------------------------------------------------------------------------- */

enum {
    IPV4_HEADER_SIZE = 20, /* without options; never less */
    IPV4_ADDRESS_SIZE = 4,

    IPV4_TOS_OFFSET = 1,
    IPV4_TOTAL_LENGTH_OFFSET = 2,
    IPV4_ID_OFFSET = 4,
    IPV4_FRAGMENT_OFFSET = 6, /* three flags, and 13 bits of where the fragment belongs */
    IPV4_TTL_OFFSET = 8,
    IPV4_PROTOCOL_OFFSET = 9,
    IPV4_CHECKSUM_OFFSET = 10,
    IPV4_SOURCE_OFFSET = 12,
    IPV4_DESTINATION_OFFSET = 16,

    IPV4_OPTION_END = 0,
    IPV4_OPTION_NOTHING = 1,
    IPV4_OPTION_LOOSE_ROUTE = 131,
    IPV4_OPTION_STRICT_ROUTE = 137,

    IPV4_VERSION_PLAIN = 0x45, /* the first byte of a header without options */
    IPV4_DONT_FRAGMENT = 0x4000,
    IPV4_MORE_FRAGMENTS = 0x2000,
    IPV4_FRAGMENT_PLACE = 0x1fff,
};

enum {
    IPV6_HEADER_SIZE = 40,
    IPV6_ADDRESS_SIZE = 16,
    IPV6_MTU_MIN = 1280, /* every IPv6 link takes such a packet (RFC 8200 5) */

    IPV6_CLASS_OFFSET = 1, /* the lower half of the traffic class, in the upper half of the byte */
    IPV6_PAYLOAD_LENGTH_OFFSET = 4, /* of all that is behind the header */
    IPV6_NEXT_HEADER_OFFSET = 6,
    IPV6_HOP_LIMIT_OFFSET = 7,
    IPV6_SOURCE_OFFSET = 8,
    IPV6_DESTINATION_OFFSET = 24,

    IPV6_VERSION_PLAIN = 0x60, /* the first byte, of traffic class 0 */
};

/* Extension headers begin with the next header's type and their own length. */
enum {
    EXTENSION_SIZE_MIN = 8,
    EXTENSION_LENGTH_OFFSET = 1,
    EXTENSION_FRAGMENT_OFFSET = 2, /* where the fragment belongs, in 13 bits; the last is "more" */
    EXTENSION_FRAGMENT_PLACE = 0xfff8,

    EXTENSION_HOP_BY_HOP = 0,
    EXTENSION_ROUTING = 43,
    EXTENSION_FRAGMENT = 44,
    EXTENSION_AUTHENTICATION = 51,
    EXTENSION_DESTINATION = 60,

    /* Each once and destination options twice (RFC 8200 4.1); two more cost nothing. A bound, so
     * that nothing can be sent that takes long to walk. */
    EXTENSIONS_MAX = 8,
};

/* -- what IP carries --------------------------------------------------------------------------- */

enum {
    PROTOCOL_ICMP = 1,
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    PROTOCOL_ICMPV6 = 58,

    PORTS_SIZE = 4, /* TCP and UDP begin with both */
};

enum {
    TCP_HEADER_SIZE = 20, /* without options; never less */

    TCP_SEQUENCE_OFFSET = 4,
    TCP_ACKNOWLEDGEMENT_OFFSET = 8,
    TCP_HEADER_LENGTH_OFFSET = 12, /* 4 bits of 32-bit words, 4 bits reserved; flags follow */
    TCP_FLAGS_OFFSET = 13,
    TCP_WINDOW_OFFSET = 14,
    TCP_CHECKSUM_OFFSET = 16,
    TCP_URGENT_OFFSET = 18,

    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_CWR = 0x80,

    TCP_OPTION_END = 0,
    TCP_OPTION_NOTHING = 1,
    TCP_OPTION_MSS = 2,
    TCP_OPTION_MSS_SIZE = 4, /* kind, size, value */
};

enum {
    UDP_HEADER_SIZE = 8,
    UDP_LENGTH_OFFSET = 4,
    UDP_CHECKSUM_OFFSET = 6,
};

enum {
    ICMP_HEADER_SIZE = 8, /* type, code, checksum, 4 bytes by the type; in an error the packet */

    ICMP_TYPE_OFFSET = 0,
    ICMP_CODE_OFFSET = 1,
    ICMP_CHECKSUM_OFFSET = 2,
    ICMP_MTU_OFFSET = 4,

    ICMP_ECHO_REPLY = 0,
    ICMP_DESTINATION_UNREACHABLE = 3,
    ICMP_HOST_UNREACHABLE = 1,
    ICMP_FRAGMENTATION_NEEDED = 4,
    ICMP_ECHO = 8,
    ICMP_TIMESTAMP = 13,
    ICMP_ADDRESS_MASK_REPLY = 18,

    ICMPV6_DESTINATION_UNREACHABLE = 1,
    ICMPV6_ADDRESS_UNREACHABLE = 3,
    ICMPV6_PACKET_TOO_BIG = 2,
    ICMPV6_INFORMATIONAL = 128, /* types from here on; those below are errors */
    ICMPV6_REDIRECT = 137,
};

/* -- what single fields say -------------------------------------------------------------------- */

/* 4 or 6 when `packet` is an IP packet. */
static inline unsigned ip_version(const uint8_t *packet) {
    return packet[0] >> 4;
}

/* Options included; less than IPV4_HEADER_SIZE when it is malformed. */
static inline size_t ip4_header_length(const uint8_t *packet) {
    return (packet[0] & 15u) * 4u;
}

/* Of the packet by its own header, which may claim more or less than there is. */
static inline size_t ip_packet_length(const uint8_t *packet) {
    if (ip_version(packet) == 4)
        return be16_read(packet + IPV4_TOTAL_LENGTH_OFFSET);
    return IPV6_HEADER_SIZE + (size_t)be16_read(packet + IPV6_PAYLOAD_LENGTH_OFFSET);
}

static inline const uint8_t *ip_source(const uint8_t *packet) {
    return packet + (ip_version(packet) == 4 ? IPV4_SOURCE_OFFSET : IPV6_SOURCE_OFFSET);
}

static inline const uint8_t *ip_destination(const uint8_t *packet) {
    return packet + (ip_version(packet) == 4 ? IPV4_DESTINATION_OFFSET : IPV6_DESTINATION_OFFSET);
}

/* Options included; less than TCP_HEADER_SIZE when it is malformed. */
static inline size_t tcp_header_length(const uint8_t *tcp) {
    return (tcp[TCP_HEADER_LENGTH_OFFSET] >> 4) * 4u;
}

/* -- the walk ---------------------------------------------------------------------------------- */

/* What an IP header and the extension headers behind it lead to. */
struct ip_headers {
    uint32_t transport;     /* where it begins; 0: the headers are not whole, or not IP */
    uint8_t protocol;       /* of the transport; an extension header's in a later fragment */
    uint8_t n_extensions;   /* of IPv6 */
    bool is_fragment;       /* of a packet that was cut, the first or a later one */
    bool is_later_fragment; /* the transport header went with the first one */
    bool is_authenticated;  /* by IPsec: nothing may be changed */
    bool is_routed;         /* by an IPv6 routing header: on from its destination to others */
};

/* ip_walk's way for IPv6 packets with extension headers. */
struct ip_headers ip6_walk_extensions(const uint8_t *packet, size_t length);

static inline bool ip6_is_extension(uint8_t type) {
    return type == EXTENSION_HOP_BY_HOP || type == EXTENSION_ROUTING ||
           type == EXTENSION_FRAGMENT || type == EXTENSION_AUTHENTICATION ||
           type == EXTENSION_DESTINATION;
}

static inline struct ip_headers ip4_walk(const uint8_t *packet, size_t length) {
    size_t header = ip4_header_length(packet);
    unsigned fragment = be16_read(packet + IPV4_FRAGMENT_OFFSET);
    bool is_whole = header >= IPV4_HEADER_SIZE && header <= length;
    return (struct ip_headers){
        .transport = is_whole ? (uint32_t)header : 0,
        .protocol = packet[IPV4_PROTOCOL_OFFSET],
        .is_fragment = (fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_PLACE)) != 0,
        .is_later_fragment = (fragment & IPV4_FRAGMENT_PLACE) != 0,
    };
}

/* Walks the headers of the packet of at most `length` bytes that begins at `packet`. */
static inline struct ip_headers ip_walk(const uint8_t *packet, size_t length) {
    if (length >= IPV4_HEADER_SIZE && ip_version(packet) == 4)
        return ip4_walk(packet, length);
    if (length < IPV6_HEADER_SIZE || ip_version(packet) != 6)
        return (struct ip_headers){0};
    if (ip6_is_extension(packet[IPV6_NEXT_HEADER_OFFSET]))
        return ip6_walk_extensions(packet, length);
    return (struct ip_headers){
        .transport = IPV6_HEADER_SIZE,
        .protocol = packet[IPV6_NEXT_HEADER_OFFSET],
    };
}

/* Where the IP header of an Ethernet frame begins, behind VLAN tags; 0 when the frame does not
 * announce the version of IP that is there, or is too short for its shortest header. */
size_t ethernet_find_ip(const uint8_t *frame, size_t length);

#endif
