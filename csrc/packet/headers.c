#include "packet/headers.h"

/* -- extension headers ------------------------------------------------------------------------- */

static size_t extension_length(uint8_t type, const uint8_t *extension) {
    if (type == EXTENSION_FRAGMENT)
        return EXTENSION_SIZE_MIN;
    size_t unit = type == EXTENSION_AUTHENTICATION ? 4 : 8;
    return EXTENSION_SIZE_MIN + extension[EXTENSION_LENGTH_OFFSET] * unit;
}

/* No other header follows a later fragment's, whatever its type says. */
static void add_extension(struct ip_headers *headers, const uint8_t *extension) {
    if (headers->protocol == EXTENSION_FRAGMENT) {
        unsigned fragment = be16_read(extension + EXTENSION_FRAGMENT_OFFSET);
        headers->is_fragment = true;
        headers->is_later_fragment = (fragment & EXTENSION_FRAGMENT_PLACE) != 0;
    }
    if (headers->protocol == EXTENSION_AUTHENTICATION)
        headers->is_authenticated = true;
    if (headers->protocol == EXTENSION_ROUTING)
        headers->is_routed = true;
    headers->n_extensions++;
    headers->transport += (uint32_t)extension_length(headers->protocol, extension);
    headers->protocol = extension[0];
}

struct ip_headers ip6_walk_extensions(const uint8_t *packet, size_t length) {
    struct ip_headers headers = {
        .transport = IPV6_HEADER_SIZE,
        .protocol = packet[IPV6_NEXT_HEADER_OFFSET],
    };
    while (ip6_is_extension(headers.protocol) && !headers.is_later_fragment) {
        if (headers.n_extensions == EXTENSIONS_MAX ||
            headers.transport + EXTENSION_SIZE_MIN > length)
            return (struct ip_headers){0};
        add_extension(&headers, packet + headers.transport);
    }
    return headers.transport <= length ? headers : (struct ip_headers){0};
}

/* -- Ethernet ---------------------------------------------------------------------------------- */

static bool is_vlan(unsigned type) {
    return type == ETHERNET_TYPE_VLAN || type == ETHERNET_TYPE_SERVICE_VLAN;
}

static unsigned type_before(const uint8_t *frame, size_t at) {
    return be16_read(frame + at - ETHERNET_TYPE_SIZE);
}

/* A frame with the shortest IP header has 12 bytes more than the tags: all that is read here. */
size_t ethernet_find_ip(const uint8_t *frame, size_t length) {
    size_t at = ETHERNET_HEADER_SIZE;
    if (length < ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE)
        return 0;
    for (int i = 0; i < VLAN_TAGS_MAX && is_vlan(type_before(frame, at)); i++)
        at += VLAN_TAG_SIZE;
    unsigned version = ip_version(frame + at);
    bool is_announced =
        type_before(frame, at) == (version == 4 ? ETHERNET_TYPE_IPV4 : ETHERNET_TYPE_IPV6);
    return is_announced && (version == 4 || version == 6) ? at : 0;
}
