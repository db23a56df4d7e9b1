/* In the order in which a packet meets it: what its headers are, does it continue the group, are
 * its checksums right, the super-packet's headers. The cheapest refusal comes first. */
#include "packet/gro.h"

#include <arpa/inet.h>
#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/headers.h"

enum {
    TCP_GSO_SIZE_MIN = 8,     /* Linux senders use no less: TCP_MIN_SND_MSS minus all options */
    SUPER_PACKET_MAX = 65535, /* what IPv4's total length can say; the same for IPv6 */
};

/* A packet that may be merged; offsets as in struct gro_group. */
struct packet {
    const uint8_t *bytes;
    size_t length;
    bool is_udp;
    size_t transport, header;
};

/* -- what the headers are ---------------------------------------------------------------------- */

static bool parse_tcp(struct packet *packet) {
    const uint8_t *tcp = packet->bytes + packet->transport;
    if (packet->length <= packet->transport + TCP_HEADER_SIZE)
        return false;
    size_t tcp_header = tcp_header_length(tcp);
    packet->header = packet->transport + tcp_header;
    return (tcp[TCP_FLAGS_OFFSET] & ~TCP_PSH) == TCP_ACK &&
           (tcp[TCP_HEADER_LENGTH_OFFSET] & 15) == 0 && tcp_header >= TCP_HEADER_SIZE &&
           packet->header < packet->length;
}

static bool parse_udp(struct packet *packet) {
    const uint8_t *udp = packet->bytes + packet->transport;
    packet->header = packet->transport + UDP_HEADER_SIZE;
    return packet->header < packet->length &&
           be16_read(udp + UDP_LENGTH_OFFSET) == packet->length - packet->transport &&
           be16_read(udp + UDP_CHECKSUM_OFFSET) != 0;
}

static bool parse_transport(struct packet *packet, uint8_t protocol) {
    packet->is_udp = protocol == PROTOCOL_UDP;
    if (packet->is_udp)
        return parse_udp(packet);
    return protocol == PROTOCOL_TCP && parse_tcp(packet);
}

/* Neither options nor extension headers, and no flag but "don't fragment". */
static bool is_plain_ip(const struct ip_headers *ip, const uint8_t *bytes) {
    if (bytes[0] == IPV4_VERSION_PLAIN)
        return (be16_read(bytes + IPV4_FRAGMENT_OFFSET) & ~IPV4_DONT_FRAGMENT) == 0;
    return ip->transport == IPV6_HEADER_SIZE && ip_version(bytes) == 6;
}

static bool parse(struct packet *packet, const uint8_t *bytes, size_t length) {
    struct ip_headers ip = ip_walk(bytes, length);
    *packet = (struct packet){.bytes = bytes, .length = length, .transport = ip.transport};
    return ip.transport != 0 && is_plain_ip(&ip, bytes) && ip_packet_length(bytes) == length &&
           parse_transport(packet, ip.protocol);
}

/* -- does it continue the group ---------------------------------------------------------------- */

static bool equal(const uint8_t *a, const uint8_t *b, size_t from, size_t to) {
    return memcmp(a + from, b + from, to - from) == 0;
}

static bool has_same_ip(const uint8_t *a, const uint8_t *b) {
    if (a[0] != IPV4_VERSION_PLAIN)
        return equal(a, b, 0, IPV6_PAYLOAD_LENGTH_OFFSET) &&
               equal(a, b, IPV6_NEXT_HEADER_OFFSET, IPV6_HEADER_SIZE);
    return equal(a, b, 0, IPV4_TOTAL_LENGTH_OFFSET) &&
           equal(a, b, IPV4_FRAGMENT_OFFSET, IPV4_CHECKSUM_OFFSET) &&
           equal(a, b, IPV4_SOURCE_OFFSET, IPV4_HEADER_SIZE);
}

/* All but sequence number, flags and checksum. */
static bool has_same_tcp(const uint8_t *a, const uint8_t *b, size_t tcp_header) {
    return equal(a, b, 0, PORTS_SIZE) &&
           equal(a, b, TCP_ACKNOWLEDGEMENT_OFFSET, TCP_FLAGS_OFFSET) &&
           equal(a, b, TCP_WINDOW_OFFSET, TCP_CHECKSUM_OFFSET) &&
           equal(a, b, TCP_URGENT_OFFSET, tcp_header);
}

static uint32_t sequence(const uint8_t *tcp) {
    uint32_t value;
    memcpy(&value, tcp + TCP_SEQUENCE_OFFSET, sizeof value);
    return ntohl(value);
}

static bool is_pushed(const struct packet *packet) {
    return !packet->is_udp && (packet->bytes[packet->transport + TCP_FLAGS_OFFSET] & TCP_PSH) != 0;
}

static bool continues_flow(const struct gro_group *group, const struct packet *packet) {
    const uint8_t *first = group->first + group->transport;
    const uint8_t *transport = packet->bytes + group->transport;
    if (!has_same_ip(group->first, packet->bytes))
        return false;
    if (group->is_udp)
        return equal(first, transport, 0, PORTS_SIZE);
    return has_same_tcp(first, transport, group->header - group->transport) &&
           sequence(transport) == (uint32_t)(sequence(first) + group->n_payload);
}

/* The second packet shows how the ids of this flow go; the others keep to it. */
static bool continues_ids(struct gro_group *group, const uint8_t *packet) {
    if (packet[0] != IPV4_VERSION_PLAIN)
        return true;
    uint16_t difference =
        (uint16_t)(be16_read(packet + IPV4_ID_OFFSET) - be16_read(group->first + IPV4_ID_OFFSET));
    bool is_unfragmentable = be16_read(packet + IPV4_FRAGMENT_OFFSET) == IPV4_DONT_FRAGMENT;
    if (group->n_packets == 1)
        group->id_step = difference == 0 && is_unfragmentable ? 0 : 1;
    return difference == group->id_step * group->n_packets;
}

/* By what the headers and lengths say. */
static bool continues(struct gro_group *group, const struct packet *packet) {
    size_t payload = packet->length - packet->header;
    return packet->is_udp == group->is_udp && packet->transport == group->transport &&
           packet->header == group->header && payload <= group->gso_size &&
           group->lead + group->header + group->n_payload + payload <= SUPER_PACKET_MAX &&
           continues_flow(group, packet) && continues_ids(group, packet->bytes);
}

/* -- are its checksums right ------------------------------------------------------------------- */

/* A sum over what contains its own checksum is all ones. */
static bool is_whole(uint64_t sum) {
    return checksum_fold(sum) == 0xffff;
}

static bool has_right_checksums(const uint8_t *packet, size_t length, size_t transport,
                                bool is_udp) {
    size_t transport_length = length - transport;
    if (packet[0] == IPV4_VERSION_PLAIN && !is_whole(checksum_add(0, packet, IPV4_HEADER_SIZE)))
        return false;
    uint64_t sum =
        checksum_pseudo_header(packet, is_udp ? PROTOCOL_UDP : PROTOCOL_TCP, transport_length);
    return is_whole(checksum_add(sum, packet + transport, transport_length));
}

/* Left undone until there is a second packet. If it fails nothing may follow. */
static bool verify_first(struct gro_group *group) {
    if (!group->is_first_verified)
        group->is_first_verified = has_right_checksums(
            group->first, group->header + group->gso_size, group->transport, group->is_udp);
    group->is_closed = !group->is_first_verified;
    return group->is_first_verified;
}

/* -- the group --------------------------------------------------------------------------------- */

static void append(struct gro_group *group, const struct packet *packet) {
    size_t payload = packet->length - packet->header;
    group->n_packets++;
    group->iov[group->n_packets] =
        (struct iovec){(uint8_t *)(uintptr_t)packet->bytes + packet->header, payload};
    group->n_payload += payload;
    group->is_pushed = is_pushed(packet);
    group->is_closed =
        payload < group->gso_size || group->is_pushed || group->n_packets == GRO_PACKETS_MAX;
}

bool gro_begin(struct gro_group *group, const uint8_t *frame, size_t length, size_t lead) {
    struct packet first;
    group->n_packets = 0;
    if (length <= lead || !parse(&first, frame + lead, length - lead) || is_pushed(&first))
        return false;
    group->first = first.bytes;
    group->lead = lead;
    group->is_udp = first.is_udp;
    group->transport = first.transport;
    group->header = first.header;
    group->gso_size = first.length - first.header;
    group->n_payload = 0;
    group->is_first_verified = false;
    if (!group->is_udp && group->gso_size < TCP_GSO_SIZE_MIN)
        return false;
    append(group, &first);
    return true;
}

bool gro_extend(struct gro_group *group, const uint8_t *frame, size_t length) {
    struct packet next;
    size_t lead = group->lead;
    if (group->n_packets == 0 || group->is_closed || length <= lead ||
        !parse(&next, frame + lead, length - lead) || !continues(group, &next) ||
        !equal(group->first - lead, frame, 0, lead) || !verify_first(group) ||
        !has_right_checksums(next.bytes, next.length, next.transport, next.is_udp))
        return false;
    append(group, &next);
    return true;
}

/* -- the super-packet's headers ---------------------------------------------------------------- */

static void write_virtio(const struct gro_group *group, uint8_t *bytes) {
    uint8_t tcp = group->first[0] == IPV4_VERSION_PLAIN ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
    const struct vnet vnet = {
        .flags = VNET_NEEDS_CSUM,
        .gso_type = group->is_udp ? VNET_GSO_UDP_L4 : tcp,
        .hdr_len = (uint16_t)(group->lead + group->header),
        .gso_size = (uint16_t)group->gso_size,
        .csum_start = (uint16_t)(group->lead + group->transport),
        .csum_offset = group->is_udp ? UDP_CHECKSUM_OFFSET : TCP_CHECKSUM_OFFSET,
    };
    vnet_write(&vnet, bytes);
}

static void write_ip(uint8_t *ip, size_t length) {
    if (ip[0] != IPV4_VERSION_PLAIN) {
        be16_write(ip + IPV6_PAYLOAD_LENGTH_OFFSET, (uint16_t)(length - IPV6_HEADER_SIZE));
        return;
    }
    be16_write(ip + IPV4_TOTAL_LENGTH_OFFSET, (uint16_t)length);
    be16_write(ip + IPV4_CHECKSUM_OFFSET, 0);
    checksum_write(ip + IPV4_CHECKSUM_OFFSET, checksum_add(0, ip, IPV4_HEADER_SIZE));
}

/* The checksum field holds what CHECKSUM_PARTIAL wants there: the pseudo-header's sum, over
 * the length of the whole. */
static void write_transport(const struct gro_group *group, uint8_t *ip, size_t length) {
    uint8_t *transport = ip + group->transport;
    size_t transport_length = length - group->transport;
    uint8_t protocol = group->is_udp ? PROTOCOL_UDP : PROTOCOL_TCP;
    uint16_t sum = checksum_fold(checksum_pseudo_header(ip, protocol, transport_length));
    memcpy(transport + (group->is_udp ? UDP_CHECKSUM_OFFSET : TCP_CHECKSUM_OFFSET), &sum,
           sizeof sum);
    if (group->is_udp)
        be16_write(transport + UDP_LENGTH_OFFSET, (uint16_t)transport_length);
    else if (group->is_pushed)
        transport[TCP_FLAGS_OFFSET] |= TCP_PSH;
}

int gro_finish(struct gro_group *group) {
    uint8_t *ip = group->headers + VNET_LENGTH + group->lead;
    size_t length = group->header + group->n_payload;
    memcpy(ip - group->lead, group->first - group->lead, group->lead + group->header);
    write_virtio(group, group->headers);
    write_ip(ip, length);
    write_transport(group, ip, length);
    group->iov[0] = (struct iovec){group->headers, VNET_LENGTH + group->lead + group->header};
    return (int)group->n_packets + 1;
}
