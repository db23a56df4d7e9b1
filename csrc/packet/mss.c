#include "packet/mss.h"

#include "packet/byteorder.h"
#include "packet/headers.h"

/* Where the TCP header begins; 0 when this is not TCP, or not its beginning. IPv6 extension headers
 * do not come with SYNs. */
static size_t find_tcp(const uint8_t *packet, size_t length) {
    struct ip_headers ip = ip_walk(packet, length);
    if (ip.protocol != PROTOCOL_TCP || ip.is_later_fragment || ip.n_extensions > 0)
        return 0;
    return ip.transport + TCP_HEADER_SIZE <= length ? ip.transport : 0;
}

/* The value of the MSS option, or NULL. */
static uint8_t *find_mss(uint8_t *tcp, size_t length) {
    size_t header = tcp_header_length(tcp), at = TCP_HEADER_SIZE;
    if (header > length)
        return NULL;
    while (at + TCP_OPTION_MSS_SIZE <= header && tcp[at] != TCP_OPTION_END) {
        if (tcp[at] == TCP_OPTION_NOTHING) {
            at++;
            continue;
        }
        if (tcp[at] == TCP_OPTION_MSS)
            return tcp[at + 1] == TCP_OPTION_MSS_SIZE ? tcp + at + 2 : NULL;
        uint8_t size = tcp[at + 1]; /* once: it lies in shared memory */
        if (size < 2)
            return NULL;
        at += size;
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
    if (at == 0 || (packet[at + TCP_FLAGS_OFFSET] & TCP_SYN) == 0)
        return;
    uint8_t *tcp = packet + at, *mss = find_mss(tcp, length - at);
    size_t headers =
        TCP_HEADER_SIZE + (ip_version(packet) == 6 ? (size_t)IPV6_HEADER_SIZE : IPV4_HEADER_SIZE);
    if (mss == NULL || mtu <= headers || be16_read(mss) <= mtu - headers)
        return;
    uint16_t before = be16_read(mss), after = (uint16_t)(mtu - headers);
    be16_write(mss, after);
    if (has_checksum)
        adjust_checksum(tcp + TCP_CHECKSUM_OFFSET, before, after, (mss - tcp) % 2 != 0);
}
