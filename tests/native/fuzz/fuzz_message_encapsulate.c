/* Any bytes as a device might hand them over: what is laid out stays inside its slot and is taken
 * apart by the far side to the same frame, or to that with its checksum completed. */
#include <stdlib.h>

#include "fuzz.h"
#include "super_packet.h"

/* A checksum that was left out is there, or still to be completed. */
static void check_frame(const uint8_t *vnet_bytes, const struct message_inbound *inbound) {
    struct vnet vnet = vnet_read(vnet_bytes);
    const uint8_t *frame = vnet_bytes + VNET_LENGTH;
    size_t length = inbound->length, same = length, start = vnet.csum_start;
    if ((vnet.flags & VNET_NEEDS_CSUM) != 0 && vnet_is_plain(&inbound->vnet)) {
        same = start + vnet.csum_offset;
        uint16_t sum = (uint16_t)~naive_sum(0, frame + start, length - start);
        sum = sum == 0 ? 0xffff : sum;
        FUZZ_CHECK(same + 2 <= length && be16_read(inbound->frame + same) == sum);
        FUZZ_CHECK(memcmp(inbound->frame + same + 2, frame + same + 2, length - same - 2) == 0);
    }
    FUZZ_CHECK(memcmp(inbound->frame, frame, same) == 0);
}

static void check_taken_apart(const struct link_format *format, const uint8_t *vnet_bytes,
                              size_t frame_length, const struct message_outbound *outbound) {
    struct message_inbound inbound;
    FUZZ_CHECK(outbound->length <= format->message_max);
    FUZZ_CHECK(message_decapsulate(format, outbound->start, outbound->length, &inbound) ==
               MESSAGE_OK);
    FUZZ_CHECK(inbound.n_packets == outbound->n_packets && inbound.n_packets >= 1);
    FUZZ_CHECK(inbound.length == frame_length);
    check_frame(vnet_bytes, &inbound);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message_outbound outbound;
    if (size < 1 + VNET_LENGTH)
        return 0;
    struct link_format format = fuzz_format(data[0]);
    size_t frame_length = size - 1 - VNET_LENGTH;
    uint8_t *slot = malloc(MESSAGE_HEADROOM + VNET_LENGTH + frame_length); /* exact, for ASan */
    if (slot == NULL)
        return 0;
    memcpy(slot + MESSAGE_HEADROOM, data + 1, size - 1);
    if (message_encapsulate(&format, slot + MESSAGE_HEADROOM, frame_length, &outbound) ==
        MESSAGE_OK) {
        FUZZ_CHECK(outbound.start >= slot);
        FUZZ_CHECK(outbound.start + outbound.length ==
                   slot + MESSAGE_HEADROOM + VNET_LENGTH + frame_length);
        check_taken_apart(&format, data + 1, frame_length, &outbound);
    }
    free(slot);
    return 0;
}
