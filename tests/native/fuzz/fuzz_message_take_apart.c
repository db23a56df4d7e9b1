/* Any message, as a link of any format may bring it: what passes is a frame inside the message
 * whose offload header the device can be given. */
#include "fuzz.h"

static void check_super(const struct vnet *vnet, size_t length) {
    if ((vnet->flags & VNET_NEEDS_CSUM) != 0)
        FUZZ_CHECK((size_t)vnet->csum_start + vnet->csum_offset + 2 <= length);
    FUZZ_CHECK((vnet->flags & ~VNET_NEEDS_CSUM) == 0);
    if (vnet->gso_type == VNET_GSO_NONE)
        return;
    FUZZ_CHECK((vnet->flags & VNET_NEEDS_CSUM) != 0);
    FUZZ_CHECK(vnet->gso_size > 0);
    FUZZ_CHECK(vnet->hdr_len > vnet->csum_start && vnet->hdr_len < length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message_inbound inbound;
    if (size < 2) /* the stream never brings an empty message */
        return 0;
    struct link_format format = fuzz_format(data[0]);
    const uint8_t *message = data + 1;
    size_t length = size - 1;
    if (length > format.message_max ||
        message_take_apart(&format, message, length, &inbound) != MESSAGE_OK)
        return 0;
    FUZZ_CHECK(inbound.frame >= message && inbound.frame + inbound.length == message + length);
    FUZZ_CHECK(inbound.n_packets >= 1 && (size_t)inbound.n_packets <= inbound.length);
    FUZZ_CHECK(inbound.length >= (format.mode == MODE_TAP ? ETHERNET_HEADER : IPV4_HEADER_MIN));
    FUZZ_CHECK(format.super_inbound || vnet_is_plain(&inbound.vnet));
    check_super(&inbound.vnet, inbound.length);

    struct vnet again = inbound.vnet; /* what passed once passes unchanged */
    FUZZ_CHECK(vnet_check(&again, inbound.frame, inbound.length,
                          format.mode == MODE_TAP ? ETHERNET_HEADER : 0) == inbound.n_packets);
    FUZZ_CHECK(memcmp(&again, &inbound.vnet, sizeof again) == 0);
    return 0;
}
