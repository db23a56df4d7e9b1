/* Any bytes as pieces: nothing outside the message's room is touched, and what is joined has the bytes
 * of its last piece where that says. Input: messages, each behind its length, its time, and how far
 * its counter is from the one before. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/byteorder.h"
#include "packet/pieces.h"

enum { LEAD = 5, LENGTH_MAX = PIECE_HEADER + PIECE_BYTES_MAX + 10 };

static struct piece_table table;

static void check_joined(const uint8_t *whole, const struct piece_result *result,
                         const uint8_t *header, size_t length) {
    size_t slice = le16_read(header + 6), index = header[1];
    FUZZ_CHECK(result->length == le16_read(header + 4) && result->is_super == (slice != 0));
    slice = slice != 0 ? slice : piece_length(result->length);
    size_t left = result->length - index * slice, own = left < slice ? left : slice;
    FUZZ_CHECK(own <= length - PIECE_HEADER);
    FUZZ_CHECK(memcmp(whole + index * slice, header + PIECE_HEADER, own) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct piece_arrival arrival = {.now_ns = 1};
    struct piece_result result;
    pieces_forget(&table);
    while (size > LEAD) {
        size_t length = le16_read(data) % LENGTH_MAX;
        arrival.now_ns += (uint64_t)data[2] * 10000000;
        arrival.counter += data[3] % 4;
        arrival.session = data[4] % 2;
        arrival.ecn = data[4] >> 6;
        data += LEAD, size -= LEAD;
        length = length < size ? length : size;
        uint8_t *content = malloc(MESSAGE_TYPE_LENGTH + PIECE_WHOLE_MAX);
        memcpy(content, data, length);
        /* Most have the id of their counter: else nothing would be taken. */
        if (length > PIECE_HEADER && arrival.ecn != ECN_CE)
            le16_write(content + 2, (uint16_t)(arrival.counter - content[1]));
        if (piece_take(&table, &arrival, content, length, &result) == PIECE_JOINED)
            check_joined(content + MESSAGE_TYPE_LENGTH, &result, data, length);
        free(content);
        data += length, size -= length;
    }
    pieces_forget(&table);
    return 0;
}
