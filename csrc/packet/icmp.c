/* For each version: is the packet whole, may it be answered, the answer. What cannot be told for
 * certain, such as the upper header of a packet cut short, is not answered. A subnet's broadcast
 * address looks like a host's from here; the kernel does not route it into the device. */
#include "packet/icmp.h"

#include <stdbool.h>
#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"

enum {
    IPV4_HEADER = 20, /* ours, and the shortest of a packet's */
    IPV6_HEADER = 40,
    ICMP_HEADER = 8, /* type, code, checksum, 4 zero bytes or the MTU; the packet follows */
    QUOTE_MIN = 8,   /* of the packet's payload: what RFC 792 promises, and the ports' place */
    HOP_LIMIT = 64,
    PRECEDENCE_INTERNETWORK_CONTROL = 0xc0, /* RFC 1812 4.3.2.5 */
    IPV4_DONT_FRAGMENT = 0x4000,

    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16,
    IPV6_SOURCE = 8,
    IPV6_DESTINATION = 24,

    PROTOCOL_ICMP = 1,
    PROTOCOL_ICMPV6 = 58,
    EXTENSION_HOP_BY_HOP = 0,
    EXTENSION_ROUTING = 43,
    EXTENSION_FRAGMENT = 44,
    EXTENSION_AUTHENTICATION = 51,
    EXTENSION_DESTINATION = 60,

    ICMP_DESTINATION_UNREACHABLE = 3,
    ICMP_HOST_UNREACHABLE = 1,
    ICMP_FRAGMENTATION_NEEDED = 4,
    ICMPV6_DESTINATION_UNREACHABLE = 1,
    ICMPV6_ADDRESS_UNREACHABLE = 3,
    ICMPV6_PACKET_TOO_BIG = 2,
    ICMPV6_INFORMATIONAL = 128, /* types from here on; those below are errors */
    ICMPV6_REDIRECT = 137,
};

/* Why the packet cannot go on, in both versions. */
struct reason {
    uint8_t type4, code4, type6, code6;
    size_t mtu;
};

static size_t at_most(size_t length, size_t limit) {
    return length < limit ? length : limit;
}

/* Type, code, no checksum yet, and the MTU: the second word's low 16 bits in IPv4 (RFC 1191 4), all
 * of it in IPv6 (RFC 4443 3.2); then as much of the packet as the answer has room for. */
static void write_icmp(uint8_t type, uint8_t code, size_t mtu, const uint8_t *packet, uint8_t *icmp,
                       size_t icmp_length) {
    memset(icmp, 0, ICMP_HEADER);
    icmp[0] = type;
    icmp[1] = code;
    be32_write(icmp + 4, (uint32_t)mtu);
    memcpy(icmp + ICMP_HEADER, packet, icmp_length - ICMP_HEADER);
}

/* -- IPv4 -------------------------------------------------------------------------------------- */

/* The packet without what may follow it; 0 when it is not whole. */
static size_t packet_length4(const uint8_t *packet, size_t length) {
    if (length < IPV4_HEADER)
        return 0;
    size_t header = (packet[0] & 15u) * 4u, total = be16_read(packet + 2);
    return header >= IPV4_HEADER && total >= header && total <= length ? total : 0;
}

/* Not this network, the loopback, a group, or the reserved addresses with the broadcast. */
static bool is_one_host4(const uint8_t *address) {
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

/* Only what is known to be a question or its answer; later types may be errors. */
static bool is_query4(uint8_t type) {
    enum { ECHO_REPLY = 0, ECHO = 8, TIMESTAMP = 13, ADDRESS_MASK_REPLY = 18 };
    return type == ECHO_REPLY || type == ECHO || (type >= TIMESTAMP && type <= ADDRESS_MASK_REPLY);
}

static bool may_answer4(const uint8_t *packet, size_t length) {
    size_t header = (packet[0] & 15u) * 4u;
    bool is_first_fragment = (be16_read(packet + 6) & 0x1fff) == 0;
    if (!is_first_fragment || !is_one_host4(packet + IPV4_SOURCE) ||
        !is_one_host4(packet + IPV4_DESTINATION))
        return false;
    return packet[9] != PROTOCOL_ICMP || (length > header && is_query4(packet[header]));
}

static void write_ipv4_header(const uint8_t *packet, uint8_t *answer, size_t answer_length) {
    memset(answer, 0, IPV4_HEADER);
    answer[0] = 0x45;
    answer[1] = PRECEDENCE_INTERNETWORK_CONTROL;
    be16_write(answer + 2, (uint16_t)answer_length);
    be16_write(answer + 6, IPV4_DONT_FRAGMENT); /* and so needs no identification: RFC 6864 */
    answer[8] = HOP_LIMIT;
    answer[9] = PROTOCOL_ICMP;
    memcpy(answer + IPV4_SOURCE, packet + IPV4_DESTINATION, 4);
    memcpy(answer + IPV4_DESTINATION, packet + IPV4_SOURCE, 4);
    checksum_write(answer + 10, checksum_add(0, answer, IPV4_HEADER));
}

static size_t answer4(const uint8_t *packet, size_t length, const struct reason *reason,
                      uint8_t *answer, size_t answer_max) {
    size_t header = (packet[0] & 15u) * 4u;
    if (!may_answer4(packet, length) ||
        answer_max < IPV4_HEADER + ICMP_HEADER + at_most(length, header + QUOTE_MIN))
        return 0;
    uint8_t *icmp = answer + IPV4_HEADER;
    size_t answer_length =
        at_most(IPV4_HEADER + ICMP_HEADER + length, at_most(answer_max, ICMP_ANSWER4_MAX));
    size_t icmp_length = answer_length - IPV4_HEADER;
    write_ipv4_header(packet, answer, answer_length);
    write_icmp(reason->type4, reason->code4, at_most(reason->mtu, UINT16_MAX), packet, icmp,
               icmp_length);
    checksum_write(icmp + 2, checksum_add(0, icmp, icmp_length));
    return answer_length;
}

/* -- IPv6 -------------------------------------------------------------------------------------- */

static size_t packet_length6(const uint8_t *packet, size_t length) {
    if (length < IPV6_HEADER)
        return 0;
    size_t total = IPV6_HEADER + (size_t)be16_read(packet + 4);
    return total <= length ? total : 0;
}

/* Not unspecified, the loopback or a group. */
static bool is_one_host6(const uint8_t *address) {
    static const uint8_t zeros[15];
    bool is_0_or_1 = memcmp(address, zeros, sizeof zeros) == 0 && address[15] <= 1;
    return address[0] != 0xff && !is_0_or_1;
}

/* Bytes of an extension header; 0 for what is none. */
static size_t extension_length(uint8_t type, const uint8_t *extension) {
    switch (type) {
    case EXTENSION_HOP_BY_HOP:
    case EXTENSION_ROUTING:
    case EXTENSION_DESTINATION:
        return 8 + extension[1] * 8u;
    case EXTENSION_FRAGMENT:
        return 8;
    case EXTENSION_AUTHENTICATION:
        return 8 + extension[1] * 4u;
    default:
        return 0;
    }
}

static bool is_extension(uint8_t type) {
    static const uint8_t shortest[8];
    return extension_length(type, shortest) != 0;
}

/* Walks to the upper header: true when it is there and neither an error nor a later fragment's. */
static bool may_answer_upper6(const uint8_t *packet, size_t length) {
    uint8_t type = packet[6];
    size_t at = IPV6_HEADER;
    while (is_extension(type)) {
        if (at + 8 > length)
            return false;
        if (type == EXTENSION_FRAGMENT && (be16_read(packet + at + 2) & 0xfff8) != 0)
            return false;
        size_t extension = extension_length(type, packet + at);
        type = packet[at];
        at += extension;
    }
    if (type != PROTOCOL_ICMPV6)
        return at <= length;
    return at < length && packet[at] >= ICMPV6_INFORMATIONAL && packet[at] != ICMPV6_REDIRECT;
}

static void write_ipv6_header(const uint8_t *packet, uint8_t *answer, size_t answer_length) {
    memset(answer, 0, IPV6_SOURCE);
    answer[0] = 0x60;
    be16_write(answer + 4, (uint16_t)(answer_length - IPV6_HEADER));
    answer[6] = PROTOCOL_ICMPV6;
    answer[7] = HOP_LIMIT;
    memcpy(answer + IPV6_SOURCE, packet + IPV6_DESTINATION, 16);
    memcpy(answer + IPV6_DESTINATION, packet + IPV6_SOURCE, 16);
}

static size_t answer6(const uint8_t *packet, size_t length, const struct reason *reason,
                      uint8_t *answer, size_t answer_max) {
    if (!is_one_host6(packet + IPV6_SOURCE) || !is_one_host6(packet + IPV6_DESTINATION) ||
        !may_answer_upper6(packet, length) ||
        answer_max < IPV6_HEADER + ICMP_HEADER + at_most(length, IPV6_HEADER + QUOTE_MIN))
        return 0;
    uint8_t *icmp = answer + IPV6_HEADER;
    size_t answer_length =
        at_most(IPV6_HEADER + ICMP_HEADER + length, at_most(answer_max, ICMP_ANSWER6_MAX));
    size_t icmp_length = answer_length - IPV6_HEADER;
    write_ipv6_header(packet, answer, answer_length);
    write_icmp(reason->type6, reason->code6, reason->mtu, packet, icmp, icmp_length);
    uint64_t pseudo_header = checksum_pseudo_header(answer, PROTOCOL_ICMPV6, icmp_length);
    checksum_write(icmp + 2, checksum_add(pseudo_header, icmp, icmp_length));
    return answer_length;
}

/* -- either ------------------------------------------------------------------------------------ */

static size_t write_answer(const uint8_t *packet, size_t length, const struct reason *reason,
                           uint8_t *answer, size_t answer_max) {
    switch (length > 0 ? packet[0] >> 4 : 0) {
    case 4:
        length = packet_length4(packet, length);
        return length > 0 ? answer4(packet, length, reason, answer, answer_max) : 0;
    case 6:
        length = packet_length6(packet, length);
        return length > 0 ? answer6(packet, length, reason, answer, answer_max) : 0;
    default:
        return 0;
    }
}

size_t icmp_unreachable(const uint8_t *packet, size_t length, uint8_t *answer, size_t answer_max) {
    const struct reason unreachable = {ICMP_DESTINATION_UNREACHABLE, ICMP_HOST_UNREACHABLE,
                                       ICMPV6_DESTINATION_UNREACHABLE, ICMPV6_ADDRESS_UNREACHABLE,
                                       0};
    return write_answer(packet, length, &unreachable, answer, answer_max);
}

size_t icmp_too_big(const uint8_t *packet, size_t length, size_t mtu, uint8_t *answer,
                    size_t answer_max) {
    const struct reason too_big = {ICMP_DESTINATION_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED,
                                   ICMPV6_PACKET_TOO_BIG, 0, mtu};
    return write_answer(packet, length, &too_big, answer, answer_max);
}
