/* Any packet whose SYN is clamped: nothing but the option and the checksum changes, the checksum is
 * as right or wrong as it was, and once is enough. Input: the MTU u16, whether there is a checksum,
 * the packet. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/byteorder.h"
#include "packet/mss.h"
#include "super_packet.h"

enum { LEAD = 3, PACKET_MAX = 65535 };

static bool has_header(const uint8_t *packet, size_t length) {
    if (length == 0 || (packet[0] >> 4 != 4 && packet[0] >> 4 != 6))
        return false;
    return length >= (packet[0] >> 4 == 4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE);
}

/* 0 and 0xffff are the same number in a checksum. */
static uint16_t sum_of(const uint8_t *packet, size_t length) {
    uint16_t sum = naive_sum(0, packet, length);
    return sum == 0xffff ? 0 : sum;
}

static void check_clamped(const uint8_t *before, uint8_t *packet, size_t length, size_t mtu,
                          bool has_checksum) {
    size_t n_changed = 0, first = length, last = 0;
    for (size_t i = 0; i < length; i++) {
        if (packet[i] == before[i])
            continue;
        n_changed++;
        first = first < i ? first : i;
        last = i;
    }
    FUZZ_CHECK(n_changed <= (has_checksum ? 4u : 2u));
    FUZZ_CHECK(n_changed == 0 || first >= IPV4_HEADER_SIZE + 16);
    FUZZ_CHECK(n_changed == 0 || has_checksum || last - first <= 1);
    if (has_checksum)
        FUZZ_CHECK(sum_of(packet, length) == sum_of(before, length));
    uint8_t *again = malloc(length);
    memcpy(again, packet, length);
    mss_clamp(again, length, mtu, has_checksum);
    FUZZ_CHECK(memcmp(again, packet, length) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < LEAD || size - LEAD > PACKET_MAX || !has_header(data + LEAD, size - LEAD))
        return 0;
    size_t length = size - LEAD, mtu = le16_read(data);
    uint8_t *packet = malloc(length); /* exact, for ASan */
    memcpy(packet, data + LEAD, length);
    mss_clamp(packet, length, mtu, (data[2] & 1) != 0);
    check_clamped(data + LEAD, packet, length, mtu, (data[2] & 1) != 0);
    free(packet);
    return 0;
}
