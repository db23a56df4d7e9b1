#include "checksum.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    IPV4_ADDRESSES = 12, /* source and destination, in the header */
    IPV6_ADDRESSES = 8,
};

static uint64_t load64(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* One's-complement addition: what is carried out of the top comes in again at the bottom. */
static uint64_t add_carry(uint64_t sum, uint64_t word) {
    sum += word;
    return sum + (sum < word);
}

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    for (; length >= 8; at += 8, length -= 8)
        sum = add_carry(sum, load64(at));
    uint64_t rest = 0;
    memcpy(&rest, at, length);
    return add_carry(sum, rest);
}

uint16_t checksum_fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint64_t checksum_pseudo_header(const uint8_t *packet, uint8_t protocol, size_t transport_length) {
    uint32_t rest[2] = {htonl((uint32_t)transport_length), htonl(protocol)};
    uint64_t sum = checksum_add(0, rest, sizeof rest);
    if (packet[0] >> 4 == 4)
        return checksum_add(sum, packet + IPV4_ADDRESSES, 8);
    return checksum_add(sum, packet + IPV6_ADDRESSES, 32);
}
