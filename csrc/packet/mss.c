#include "packet/mss.h"

#include "packet/byteorder.h"

enum {
    IPV4_HEADER_MIN = 20,
    IPV6_HEADER = 40,
    TCP_HEADER = 20,
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    TCP_SYN = 0x02,
    PROTOCOL_TCP = 6,
    OPTION_END = 0,
    OPTION_NOTHING = 1,
    OPTION_MSS = 2,
    OPTION_MSS_LENGTH = 4,
};

/* Where the TCP header begins; 0 when this is no TCP, or not its beginning. IPv6 extension headers
 * do not come with SYNs. */
static size_t find_tcp(const uint8_t *packet, size_t length) {
    if (packet[0] >> 4 == 6)
        return packet[6] == PROTOCOL_TCP && length >= IPV6_HEADER + TCP_HEADER ? IPV6_HEADER : 0;
    size_t header = (packet[0] & 15u) * 4u;
    bool is_first_fragment = (be16_read(packet + 6) & 0x1fff) == 0;
    if (header < IPV4_HEADER_MIN || packet[9] != PROTOCOL_TCP || !is_first_fragment)
        return 0;
    return length >= header + TCP_HEADER ? header : 0;
}

/* The value of the MSS option, or NULL. */
static uint8_t *find_mss(uint8_t *tcp, size_t length) {
    size_t header = (tcp[12] >> 4) * 4u, at = TCP_HEADER;
    if (header > length)
        return NULL;
    while (at + OPTION_MSS_LENGTH <= header && tcp[at] != OPTION_END) {
        if (tcp[at] == OPTION_NOTHING) {
            at++;
            continue;
        }
        if (tcp[at] == OPTION_MSS)
            return tcp[at + 1] == OPTION_MSS_LENGTH ? tcp + at + 2 : NULL;
        if (tcp[at + 1] < 2)
            return NULL;
        at += tcp[at + 1];
    }
    return NULL;
}

/* RFC 1624 equation 3, for a 16-bit word at an even or odd place. */
static void adjust_checksum(uint8_t *checksum, uint16_t before, uint16_t after, bool is_odd) {
    uint32_t sum = (uint16_t)~be16_read(checksum);
    uint32_t change = (uint32_t)(uint16_t)~before + after;
    change = (change & 0xffff) + (change >> 16);
    if (is_odd)
        change = (change >> 8 & 0xff) | (change & 0xff) << 8;
    sum += change;
    sum = (sum & 0xffff) + (sum >> 16);
    be16_write(checksum, (uint16_t) ~(sum + (sum >> 16)));
}

void mss_clamp(uint8_t *packet, size_t length, size_t mtu, bool has_checksum) {
    size_t at = find_tcp(packet, length);
    if (at == 0 || (packet[at + TCP_FLAGS] & TCP_SYN) == 0)
        return;
    uint8_t *tcp = packet + at, *mss = find_mss(tcp, length - at);
    size_t headers = TCP_HEADER + (packet[0] >> 4 == 6 ? (size_t)IPV6_HEADER : IPV4_HEADER_MIN);
    if (mss == NULL || mtu <= headers || be16_read(mss) <= mtu - headers)
        return;
    uint16_t before = be16_read(mss), after = (uint16_t)(mtu - headers);
    be16_write(mss, after);
    if (has_checksum)
        adjust_checksum(tcp + TCP_CHECKSUM, before, after, (mss - tcp) % 2 != 0);
}
