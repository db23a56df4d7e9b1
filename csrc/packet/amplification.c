#include "packet/amplification.h"

#include "packet/headers.h"

static bool has_extension_headers(const struct vnet *vnet, const uint8_t *frame) {
    return ip_version(frame + vnet->ip_start) == 6 &&
           vnet->csum_start != vnet->ip_start + IPV6_HEADER_SIZE;
}

/* All segments with their headers and encapsulation, in bytes on a wire. */
static size_t bytes_on_wire(const struct vnet *vnet, size_t n_segments, size_t length) {
    size_t payload = length - vnet->hdr_len;
    return n_segments * (vnet->hdr_len + (size_t)AMPLIFICATION_OVERHEAD) + payload;
}

bool amplifies(const struct vnet *vnet, int n_segments, const uint8_t *frame, size_t length) {
    return has_extension_headers(vnet, frame) ||
           bytes_on_wire(vnet, (size_t)n_segments, length) > AMPLIFICATION_MAX * length;
}
