/* icmp_answer: what is wrong with an ICMP answer, judged byte by byte from the RFCs and without the
 * code that made it. */
#ifndef ICMP_ANSWER_H
#define ICMP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* RFC 1071 the long way: with the checksum in its place the sum is all ones. */
static inline bool icmp_sums_to_ones(const uint8_t *a, size_t a_length, const uint8_t *b,
                                     size_t b_length) {
    uint64_t sum = 0; /* both parts begin at an even offset */
    for (size_t i = 0; i < a_length; i++)
        sum += i % 2 == 0 ? a[i] * 256u : a[i];
    for (size_t i = 0; i < b_length; i++)
        sum += i % 2 == 0 ? b[i] * 256u : b[i];
    return sum != 0 && sum % 65535 == 0;
}

static inline bool icmp_is_one_host(const uint8_t *address, size_t length) {
    static const uint8_t none[16];
    if (length == 4)
        return address[0] >= 1 && address[0] <= 223 && address[0] != 127;
    return address[0] != 0xff && (memcmp(address, none, 15) != 0 || address[15] > 1);
}

static inline const char *icmp_answer4_fault(const uint8_t *packet, size_t packet_length,
                                             const uint8_t *answer, size_t length, size_t limit,
                                             unsigned mtu) {
    size_t wanted = 28 + packet_length;
    wanted = wanted > limit ? limit : wanted;
    const uint8_t type_and_code[] = {3, mtu == 0 ? 1 : 4};
    const uint8_t second_word[] = {0, 0, (uint8_t)(mtu >> 8), (uint8_t)mtu}; /* RFC 1191 4 */
    if (length != wanted)
        return "length";
    if (answer[0] != 0x45 || answer[1] != 0xc0 || answer[2] * 256u + answer[3] != length)
        return "IPv4 header";
    if (answer[6] != 0x40 || answer[7] != 0 || answer[8] < 32 || answer[9] != 1)
        return "IPv4 header's second half";
    if (memcmp(answer + 12, packet + 16, 4) != 0 || memcmp(answer + 16, packet + 12, 4) != 0)
        return "addresses";
    if (!icmp_is_one_host(answer + 12, 4) || !icmp_is_one_host(answer + 16, 4))
        return "not from one host to one host";
    if (!icmp_sums_to_ones(answer, 20, NULL, 0))
        return "IPv4 header's checksum";
    if (memcmp(answer + 20, type_and_code, 2) != 0 || memcmp(answer + 24, second_word, 4) != 0)
        return "ICMP header";
    if (!icmp_sums_to_ones(answer + 20, length - 20, NULL, 0))
        return "ICMP checksum";
    return memcmp(answer + 28, packet, length - 28) != 0 ? "quoted packet" : NULL;
}

static inline const char *icmp_answer6_fault(const uint8_t *packet, size_t packet_length,
                                             const uint8_t *answer, size_t length, size_t limit,
                                             unsigned mtu) {
    size_t wanted = 48 + packet_length;
    wanted = wanted > limit ? limit : wanted;
    if (length != wanted)
        return "length";
    static const uint8_t start[] = {0x60, 0, 0, 0};
    const uint8_t type_and_code[] = {mtu == 0 ? 1 : 2, mtu == 0 ? 3 : 0};
    const uint8_t second_word[] = {(uint8_t)(mtu >> 24), (uint8_t)(mtu >> 16), (uint8_t)(mtu >> 8),
                                   (uint8_t)mtu};
    if (memcmp(answer, start, 4) != 0 || answer[4] * 256u + answer[5] != length - 40)
        return "IPv6 header";
    if (answer[6] != 58 || answer[7] < 32)
        return "next header or hop limit";
    if (memcmp(answer + 8, packet + 24, 16) != 0 || memcmp(answer + 24, packet + 8, 16) != 0)
        return "addresses";
    if (!icmp_is_one_host(answer + 8, 16) || !icmp_is_one_host(answer + 24, 16))
        return "not from one host to one host";
    if (memcmp(answer + 40, type_and_code, 2) != 0 || memcmp(answer + 44, second_word, 4) != 0)
        return "ICMPv6 header";
    uint8_t pseudo[40];
    memcpy(pseudo, answer + 8, 32);
    memcpy(pseudo + 32, (uint8_t[]){0, 0, (uint8_t)((length - 40) >> 8), (uint8_t)(length - 40)},
           4);
    memcpy(pseudo + 36, (uint8_t[]){0, 0, 0, 58}, 4);
    if (!icmp_sums_to_ones(pseudo, sizeof pseudo, answer + 40, length - 40))
        return "ICMPv6 checksum";
    return memcmp(answer + 48, packet, length - 48) != 0 ? "quoted packet" : NULL;
}

/* NULL when the answer is right for the whole packet in its length field. `answer_max` is the room
 * that its maker was given. `mtu` 0: the packet's host is unreachable; else it was too big. */
static inline const char *icmp_answer_fault(const uint8_t *packet, const uint8_t *answer,
                                            size_t length, size_t answer_max, unsigned mtu) {
    bool is_ipv4 = packet[0] >> 4 == 4;
    size_t limit = is_ipv4 ? 576 : 1280;
    limit = answer_max < limit ? answer_max : limit;
    return is_ipv4 ? icmp_answer4_fault(packet, packet[2] * 256u + packet[3], answer, length, limit,
                                        mtu)
                   : icmp_answer6_fault(packet, 40 + packet[4] * 256u + packet[5], answer, length,
                                        limit, mtu);
}

#endif
