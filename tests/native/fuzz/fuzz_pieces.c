/* Any bytes as pieces: nothing outside the room where they are opened is touched, and what is joined has
 * the bytes of its last piece where that says. Input: messages, each behind its length, its time, how far
 * its counter is from the one before, and what becomes of it. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/byteorder.h"
#include "packet/pieces.h"

enum { LEAD = 5, IS_OF_OTHER = 1, DOES_NOT_OPEN = 2, IS_ALONE = 4 };

enum { LENGTH_MAX = PIECE_HEADER + PIECE_BYTES_MAX + 10 };

static struct piece_table table;
static struct piece_room room;

static void check_joined(const uint8_t *whole, const struct piece_result *result,
                         const uint8_t *header, size_t length) {
    size_t slice = le16_read(header + 6), index = header[1];
    FUZZ_CHECK(result->length == le16_read(header + 4) && result->is_super == (slice != 0));
    slice = slice != 0 ? slice : piece_length(result->length);
    size_t left = result->length - index * slice, own = left < slice ? left : slice;
    FUZZ_CHECK(own <= length - PIECE_HEADER);
    FUZZ_CHECK(memcmp(whole + index * slice, header + PIECE_HEADER, own) == 0);
}

/* As the link-reader does. */
static enum piece_end open_and_take(uint8_t *content, const struct piece_arrival *arrival,
                                    const uint8_t *message, size_t length,
                                    struct piece_result *result) {
    uint8_t *at = piece_expect(&room, arrival->session, arrival->counter, length, arrival->now_ns);
    if (at == NULL) {
        FUZZ_CHECK(piece_room_leave(&room) == 0);
        at = content;
    }
    memcpy(at, message, length);
    enum piece_end end = piece_take(&table, &room, arrival, at, length, result);
    if (end != PIECE_OTHER)
        return end;
    FUZZ_CHECK(at != content && piece_room_leave(&room) == 0);
    memmove(content, at, length);
    end = piece_take(&table, &room, arrival, content, length, result);
    FUZZ_CHECK(end != PIECE_OTHER);
    return end;
}

static void open_in_vain(const struct piece_arrival *arrival, size_t length) {
    uint8_t *at = piece_expect(&room, arrival->session, arrival->counter, length, arrival->now_ns);
    if (at != NULL)
        memset(at, 0, length);
    piece_expect_nothing(&room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t message[LENGTH_MAX];
    struct piece_arrival arrival = {.now_ns = 1};
    struct piece_result result;
    uint8_t *content = malloc(PIECE_ROOM); /* for ASan */
    pieces_forget(&table, &room);
    while (size > LEAD) {
        size_t length = le16_read(data) % LENGTH_MAX;
        uint8_t what = data[4];
        arrival.now_ns += (uint64_t)data[2] * 10000000;
        arrival.counter += data[3] % 4;
        arrival.session = what & IS_OF_OTHER;
        arrival.ecn = what >> 6;
        data += LEAD, size -= LEAD;
        length = length < size ? length : size;
        memcpy(message, data, length);
        /* Most have the id of their counter: else nothing would be taken. */
        if (length > PIECE_HEADER && arrival.ecn != ECN_CE)
            le16_write(message + 2, (uint16_t)(arrival.counter - message[1]));
        if ((what & DOES_NOT_OPEN) != 0)
            open_in_vain(&arrival, length);
        if ((what & IS_ALONE) != 0)
            FUZZ_CHECK(piece_room_leave(&room) == 0);
        if (open_and_take(content, &arrival, message, length, &result) == PIECE_JOINED)
            check_joined(result.whole, &result, message, length);
        data += length, size -= length;
    }
    pieces_forget(&table, &room);
    free(content);
    return 0;
}
