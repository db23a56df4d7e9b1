#include "packet/flow.h"

#include <string.h>

#include "packet/headers.h"

static uint64_t mix(uint64_t hash, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

static uint64_t hash_ip(const uint8_t *packet, size_t length) {
    struct ip_headers headers = ip_walk(packet, length);
    size_t n = ip_version(packet) == 4 ? IPV4_ADDRESS_SIZE : IPV6_ADDRESS_SIZE;
    uint64_t hash = mix(headers.protocol, ip_source(packet), 2 * n);
    bool has_ports = headers.protocol == PROTOCOL_TCP || headers.protocol == PROTOCOL_UDP;
    if (!has_ports || headers.transport == 0 || headers.is_fragment ||
        headers.transport + PORTS_SIZE > length)
        return hash;
    return mix(hash, packet + headers.transport, PORTS_SIZE);
}

/* A frame of Ethernet may end inside its IP header. */
static bool has_whole_header(const uint8_t *packet, size_t length) {
    return length >= (ip_version(packet) == 4 ? (size_t)IPV4_HEADER_SIZE : IPV6_HEADER_SIZE);
}

uint64_t flow_hash(enum mode mode, const uint8_t *frame, size_t length) {
    size_t ip = mode == MODE_TAP ? ethernet_find_ip(frame, length) : 0;
    bool has_ip = (mode == MODE_TUN || ip != 0) && has_whole_header(frame + ip, length - ip);
    return has_ip ? hash_ip(frame + ip, length - ip) : mix(0, frame, 2 * MAC_SIZE);
}

unsigned flow_of(enum mode mode, const uint8_t *frame, size_t length) {
    return flow_of_hash(flow_hash(mode, frame, length));
}
