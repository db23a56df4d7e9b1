#include "inbound/reach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "packet/headers.h"

int reach_add(struct reach **reach, const uint8_t *address, size_t address_length,
              unsigned prefix_length) {
    if ((address_length != IPV4_ADDRESS_SIZE && address_length != IPV6_ADDRESS_SIZE) ||
        prefix_length > address_length * 8)
        return -EINVAL;
    if (*reach == NULL)
        *reach = calloc(1, sizeof **reach);
    if (*reach == NULL)
        return -ENOMEM;
    if ((*reach)->n == REACH_MAX)
        return -ENOSPC;
    struct reach_prefix *prefix = &(*reach)->prefixes[(*reach)->n++];
    memcpy(prefix->address, address, address_length);
    prefix->address_length = (uint8_t)address_length;
    prefix->prefix_length = (uint8_t)prefix_length;
    return 0;
}

static bool begins_alike(const uint8_t *a, const uint8_t *b, unsigned n_bits) {
    unsigned n_bytes = n_bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> n_bits % 8);
    if (memcmp(a, b, n_bytes) != 0)
        return false;
    return mask == 0 || ((a[n_bytes] ^ b[n_bytes]) & mask) == 0;
}

static bool ip4_names_a_way(const uint8_t *packet, size_t length) {
    size_t header = ip4_header_length(packet), size = 1;
    if (header < IPV4_HEADER_SIZE || header > length)
        return true;
    for (size_t at = IPV4_HEADER_SIZE; at < header; at += size) {
        uint8_t kind = packet[at];
        if (kind == IPV4_OPTION_END)
            return false;
        if (kind == IPV4_OPTION_LOOSE_ROUTE || kind == IPV4_OPTION_STRICT_ROUTE)
            return true;
        size = kind == IPV4_OPTION_NOTHING ? 1 : at + 1 < header ? packet[at + 1] : 0;
        if (size == 0)
            return true;
    }
    return false;
}

static bool names_a_way(const uint8_t *packet, size_t length) {
    if (packet[0] == IPV4_VERSION_PLAIN)
        return false;
    if (ip_version(packet) == 4)
        return ip4_names_a_way(packet, length);
    struct ip_headers headers = ip_walk(packet, length);
    return headers.transport == 0 || headers.is_routed;
}

bool reach_has(const struct reach *reach, const uint8_t *packet, size_t length_of_packet) {
    if (names_a_way(packet, length_of_packet))
        return false;
    const uint8_t *destination = ip_destination(packet);
    unsigned length = ip_version(packet) == 4 ? IPV4_ADDRESS_SIZE : IPV6_ADDRESS_SIZE;
    for (unsigned i = 0; i < reach->n; i++) {
        const struct reach_prefix *prefix = &reach->prefixes[i];
        if (prefix->address_length == length &&
            begins_alike(prefix->address, destination, prefix->prefix_length))
            return true;
    }
    return false;
}

void reach_free(struct reach **reach) {
    free(*reach);
    *reach = NULL;
}
