/* Any message, as a link of any format may bring it: what passes is a frame inside the message
 * whose offload header the device can be given. */
#include <stdlib.h>

#include "packet/amplification.h"
#include "fuzz.h"

/* What the kernel would write to is the checksum of a TCP or UDP header: its protocol is in the
 * IP header, or in an extension header before it. */
static void check_checksum(const struct vnet *vnet, const uint8_t *frame, size_t length) {
    const uint8_t *ip = frame + vnet->ip_start;
    bool is_ipv4 = ip[0] >> 4 == 4;
    size_t header = (size_t)vnet->csum_start - vnet->ip_start;
    uint8_t protocol = ip[is_ipv4 ? 9 : 6];
    if (is_ipv4)
        FUZZ_CHECK(header == (ip[0] & 15u) * 4u && header >= IPV4_HEADER_SIZE);
    else
        FUZZ_CHECK(ip[0] >> 4 == 6 && header >= IPV6_HEADER_SIZE && header % 8 == 0);
    bool is_behind = !is_ipv4 && header > IPV6_HEADER_SIZE;
    if (!is_behind)
        FUZZ_CHECK(protocol == (vnet->csum_offset == 6 ? 17 : 6));
    FUZZ_CHECK(vnet->csum_offset == 6 || vnet->csum_offset == 16);
    FUZZ_CHECK((size_t)vnet->csum_start + vnet->csum_offset + 2 <= length);
}

static void check_super(const struct vnet *vnet, const uint8_t *frame, size_t length) {
    if ((vnet->flags & VNET_NEEDS_CSUM) != 0)
        check_checksum(vnet, frame, length);
    FUZZ_CHECK((vnet->flags & ~VNET_NEEDS_CSUM) == 0);
    if (vnet->gso_type == VNET_GSO_NONE)
        return;
    FUZZ_CHECK((vnet->flags & VNET_NEEDS_CSUM) != 0);
    FUZZ_CHECK(vnet->gso_size > 0);
    FUZZ_CHECK((vnet->gso_type == VNET_GSO_UDP_L4) == (vnet->csum_offset == 6));
    FUZZ_CHECK(vnet->hdr_len > vnet->csum_start && vnet->hdr_len < length);
}

/* In a wide integer, and by division. */
static void check_amplification(const struct message_inbound *inbound) {
    const struct vnet *vnet = &inbound->vnet;
    if (vnet->gso_type == VNET_GSO_NONE)
        return;
    uint64_t headers = (uint64_t)inbound->n_packets * (vnet->hdr_len + AMPLIFICATION_OVERHEAD);
    FUZZ_CHECK((headers + inbound->length - vnet->hdr_len + 1) / 2 <= inbound->length);
    if (inbound->frame[vnet->ip_start] >> 4 == 6)
        FUZZ_CHECK(vnet->csum_start == vnet->ip_start + IPV6_HEADER_SIZE);
}

static void check_taken_apart(const struct link_format *format, const uint8_t *message,
                              size_t length, const struct message_inbound *inbound) {
    size_t l3 = format->mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0;
    const uint8_t *end = inbound->frame + inbound->length;
    FUZZ_CHECK(inbound->frame >= message && end <= message + length);
    FUZZ_CHECK(end == message + length || format->wire == WIRE_WIREGUARD); /* there it is padded */
    FUZZ_CHECK(inbound->n_packets >= 1 && (size_t)inbound->n_packets <= inbound->length);
    FUZZ_CHECK(inbound->length >= (l3 != 0 ? ETHERNET_HEADER_SIZE : IPV4_HEADER_SIZE));
    FUZZ_CHECK(format->super_inbound || vnet_is_plain(&inbound->vnet));
    check_super(&inbound->vnet, inbound->frame, inbound->length);
    check_amplification(inbound);

    struct vnet again = inbound->vnet; /* what passed once passes unchanged */
    FUZZ_CHECK(vnet_check(&again, inbound->frame, inbound->length, l3) == inbound->n_packets);
    FUZZ_CHECK(memcmp(&again, &inbound->vnet, sizeof again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message_inbound inbound;
    if (size < 2) /* the stream never brings an empty message */
        return 0;
    struct link_format format = fuzz_format(data[0]);
    size_t length = size - 1;
    if (length > format.message_max)
        return 0;
    uint8_t *message = malloc(length); /* exact, for ASan */
    if (message == NULL)
        return 0;
    memcpy(message, data + 1, length);
    if (message_decapsulate(&format, message, length, &inbound) == MESSAGE_OK)
        check_taken_apart(&format, message, length, &inbound);
    free(message);
    return 0;
}
