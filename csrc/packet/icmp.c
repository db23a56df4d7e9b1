/* For each version: is the packet whole, may it be answered, the answer. What is uncertain,
 * such as the upper header of a packet cut short, is not answered. A subnet's broadcast address
 * looks like a host's from here; the kernel does not route it into the device. */
#include "packet/icmp.h"

#include <stdbool.h>
#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/headers.h"

enum {
    QUOTE_MIN = 8, /* of the packet's payload: what RFC 792 promises, and the ports' place */
    HOP_LIMIT = 64,
    PRECEDENCE_INTERNETWORK_CONTROL = 0xc0, /* RFC 1812 4.3.2.5 */
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
    memset(icmp, 0, ICMP_HEADER_SIZE);
    icmp[ICMP_TYPE_OFFSET] = type;
    icmp[ICMP_CODE_OFFSET] = code;
    be32_write(icmp + ICMP_MTU_OFFSET, (uint32_t)mtu);
    memcpy(icmp + ICMP_HEADER_SIZE, packet, icmp_length - ICMP_HEADER_SIZE);
}

/* -- IPv4 -------------------------------------------------------------------------------------- */

/* Not this network, the loopback, a group, or the reserved addresses with the broadcast. */
static bool is_one_host4(const uint8_t *address) {
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

/* Only what is known to be a question or its answer; later types may be errors. */
static bool is_query4(uint8_t type) {
    return type == ICMP_ECHO_REPLY || type == ICMP_ECHO ||
           (type >= ICMP_TIMESTAMP && type <= ICMP_ADDRESS_MASK_REPLY);
}

static bool may_answer4(const uint8_t *packet, size_t length, const struct ip_headers *ip) {
    if (ip->is_later_fragment || !is_one_host4(packet + IPV4_SOURCE_OFFSET) ||
        !is_one_host4(packet + IPV4_DESTINATION_OFFSET))
        return false;
    return ip->protocol != PROTOCOL_ICMP ||
           (length > ip->transport && is_query4(packet[ip->transport]));
}

static void write_ipv4_header(const uint8_t *packet, uint8_t *answer, size_t answer_length) {
    memset(answer, 0, IPV4_HEADER_SIZE);
    answer[0] = IPV4_VERSION_PLAIN;
    answer[IPV4_TOS_OFFSET] = PRECEDENCE_INTERNETWORK_CONTROL;
    be16_write(answer + IPV4_TOTAL_LENGTH_OFFSET, (uint16_t)answer_length);
    /* and so needs no identification: RFC 6864 */
    be16_write(answer + IPV4_FRAGMENT_OFFSET, IPV4_DONT_FRAGMENT);
    answer[IPV4_TTL_OFFSET] = HOP_LIMIT;
    answer[IPV4_PROTOCOL_OFFSET] = PROTOCOL_ICMP;
    memcpy(answer + IPV4_SOURCE_OFFSET, packet + IPV4_DESTINATION_OFFSET, IPV4_ADDRESS_SIZE);
    memcpy(answer + IPV4_DESTINATION_OFFSET, packet + IPV4_SOURCE_OFFSET, IPV4_ADDRESS_SIZE);
    checksum_write(answer + IPV4_CHECKSUM_OFFSET, checksum_add(0, answer, IPV4_HEADER_SIZE));
}

static size_t answer4(const uint8_t *packet, size_t length, const struct ip_headers *ip,
                      const struct reason *reason, uint8_t *answer, size_t answer_max) {
    if (!may_answer4(packet, length, ip) ||
        answer_max <
            IPV4_HEADER_SIZE + ICMP_HEADER_SIZE + at_most(length, ip->transport + QUOTE_MIN))
        return 0;
    uint8_t *icmp = answer + IPV4_HEADER_SIZE;
    size_t answer_length = at_most(IPV4_HEADER_SIZE + ICMP_HEADER_SIZE + length,
                                   at_most(answer_max, ICMP_ANSWER4_MAX));
    size_t icmp_length = answer_length - IPV4_HEADER_SIZE;
    write_ipv4_header(packet, answer, answer_length);
    write_icmp(reason->type4, reason->code4, at_most(reason->mtu, UINT16_MAX), packet, icmp,
               icmp_length);
    checksum_write(icmp + ICMP_CHECKSUM_OFFSET, checksum_add(0, icmp, icmp_length));
    return answer_length;
}

/* -- IPv6 -------------------------------------------------------------------------------------- */

/* Not unspecified, the loopback or a group. */
static bool is_one_host6(const uint8_t *address) {
    static const uint8_t zeros[15];
    bool is_0_or_1 = memcmp(address, zeros, sizeof zeros) == 0 && address[15] <= 1;
    return address[0] != 0xff && !is_0_or_1;
}

static bool may_answer6(const uint8_t *packet, size_t length, const struct ip_headers *ip) {
    if (ip->is_later_fragment || !is_one_host6(packet + IPV6_SOURCE_OFFSET) ||
        !is_one_host6(packet + IPV6_DESTINATION_OFFSET))
        return false;
    uint8_t type = length > ip->transport ? packet[ip->transport + ICMP_TYPE_OFFSET] : 0;
    return ip->protocol != PROTOCOL_ICMPV6 ||
           (type >= ICMPV6_INFORMATIONAL && type != ICMPV6_REDIRECT);
}

static void write_ipv6_header(const uint8_t *packet, uint8_t *answer, size_t answer_length) {
    memset(answer, 0, IPV6_SOURCE_OFFSET);
    answer[0] = IPV6_VERSION_PLAIN;
    be16_write(answer + IPV6_PAYLOAD_LENGTH_OFFSET, (uint16_t)(answer_length - IPV6_HEADER_SIZE));
    answer[IPV6_NEXT_HEADER_OFFSET] = PROTOCOL_ICMPV6;
    answer[IPV6_HOP_LIMIT_OFFSET] = HOP_LIMIT;
    memcpy(answer + IPV6_SOURCE_OFFSET, packet + IPV6_DESTINATION_OFFSET, IPV6_ADDRESS_SIZE);
    memcpy(answer + IPV6_DESTINATION_OFFSET, packet + IPV6_SOURCE_OFFSET, IPV6_ADDRESS_SIZE);
}

static size_t answer6(const uint8_t *packet, size_t length, const struct ip_headers *ip,
                      const struct reason *reason, uint8_t *answer, size_t answer_max) {
    if (!may_answer6(packet, length, ip) ||
        answer_max <
            IPV6_HEADER_SIZE + ICMP_HEADER_SIZE + at_most(length, IPV6_HEADER_SIZE + QUOTE_MIN))
        return 0;
    uint8_t *icmp = answer + IPV6_HEADER_SIZE;
    size_t answer_length = at_most(IPV6_HEADER_SIZE + ICMP_HEADER_SIZE + length,
                                   at_most(answer_max, ICMP_ANSWER6_MAX));
    size_t icmp_length = answer_length - IPV6_HEADER_SIZE;
    write_ipv6_header(packet, answer, answer_length);
    write_icmp(reason->type6, reason->code6, reason->mtu, packet, icmp, icmp_length);
    uint64_t pseudo_header = checksum_pseudo_header(answer, PROTOCOL_ICMPV6, icmp_length);
    checksum_write(icmp + ICMP_CHECKSUM_OFFSET, checksum_add(pseudo_header, icmp, icmp_length));
    return answer_length;
}

/* -- either ------------------------------------------------------------------------------------ */

static size_t write_answer(const uint8_t *packet, size_t length, const struct reason *reason,
                           uint8_t *answer, size_t answer_max) {
    struct ip_headers ip = ip_walk(packet, length);
    size_t whole = ip.transport != 0 ? ip_packet_length(packet) : 0; /* the rest is not its own */
    if (whole == 0 || whole < ip.transport || whole > length)
        return 0;
    return ip_version(packet) == 4 ? answer4(packet, whole, &ip, reason, answer, answer_max)
                                   : answer6(packet, whole, &ip, reason, answer, answer_max);
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
