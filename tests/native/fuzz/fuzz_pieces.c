/* Any bytes as pieces of frames: nothing outside the message's room is touched, and a frame that is
 * joined has the bytes of its two halves. Input: messages, each behind its length and time. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/byteorder.h"
#include "packet/pieces.h"

static enum ecn ecn; /* of the outer headers: not ECN-capable */

enum { LEAD = 4, CONTENT_MAX = PIECE_HEADER + PIECE_BYTES_MAX };

static struct piece_table table;

/* The same bytes in both halves: the frame shows whether they are. */
static void check_joined(const uint8_t *frame, size_t frame_length, const uint8_t *half,
                         unsigned index) {
    size_t length = piece_length(frame_length);
    size_t own = index == 0 ? length : frame_length - length;
    FUZZ_CHECK(memcmp(frame + index * length, half, own) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t now_ns = 1;
    pieces_forget(&table);
    while (size > LEAD) {
        size_t length = le16_read(data) % (CONTENT_MAX + 10), frame_length;
        now_ns += (uint64_t)le16_read(data + 2) * 100000;
        data += LEAD, size -= LEAD;
        length = length < size ? length : size;
        uint8_t *content = malloc(2 * length + 1);
        memcpy(content, data, length);
        bool has_lost;
        if (piece_take(&table, content, length, now_ns, &frame_length, &has_lost, &ecn) ==
            PIECE_JOINED)
            check_joined(content + MESSAGE_TYPE_LENGTH, frame_length, data + PIECE_HEADER, data[1]);
        free(content);
        data += length, size -= length;
    }
    return 0;
}
