/* Any bytes as a device might hand them over: what is laid out stays inside its slot and is taken
 * apart by the far side to the same frame. */
#include <stdlib.h>

#include "fuzz.h"

static void check_taken_apart(const struct link_format *format, const uint8_t *frame,
                              size_t frame_length, const struct message_outbound *outbound) {
    struct message_inbound inbound;
    FUZZ_CHECK(outbound->length <= format->message_max);
    FUZZ_CHECK(message_take_apart(format, outbound->start, outbound->length, &inbound) ==
               MESSAGE_OK);
    FUZZ_CHECK(inbound.n_packets == outbound->n_packets && inbound.n_packets >= 1);
    FUZZ_CHECK(inbound.length == frame_length);
    FUZZ_CHECK(memcmp(inbound.frame, frame, frame_length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message_outbound outbound;
    if (size < 1 + VNET_LENGTH)
        return 0;
    struct link_format format = fuzz_format(data[0]);
    const uint8_t *frame = data + 1 + VNET_LENGTH;
    size_t frame_length = size - 1 - VNET_LENGTH;
    uint8_t *slot = malloc(MESSAGE_HEADROOM + VNET_LENGTH + frame_length); /* exact, for ASan */
    if (slot == NULL)
        return 0;
    memcpy(slot + MESSAGE_HEADROOM, data + 1, size - 1);
    if (message_lay_out(&format, slot + MESSAGE_HEADROOM, frame_length, &outbound) == MESSAGE_OK) {
        FUZZ_CHECK(outbound.start >= slot);
        FUZZ_CHECK(outbound.start + outbound.length ==
                   slot + MESSAGE_HEADROOM + VNET_LENGTH + frame_length);
        check_taken_apart(&format, frame, frame_length, &outbound);
    }
    free(slot);
    return 0;
}
