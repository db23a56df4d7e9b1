#include "packet/pieces.h"

#include <string.h>

#include "fastun.h"
#include "packet/byteorder.h"
#include "packet/headers.h"

enum { INDEX_OFFSET = 1, ID_OFFSET = 2, FRAME_LENGTH_OFFSET = 4, ZERO_OFFSET = 6 };

void piece_write_header(uint8_t header[PIECE_HEADER], unsigned index, uint16_t id,
                        size_t frame_length) {
    header[0] = MESSAGE_PIECE;
    header[INDEX_OFFSET] = (uint8_t)index;
    le16_write(header + ID_OFFSET, id);
    le16_write(header + FRAME_LENGTH_OFFSET, (uint16_t)frame_length);
    le16_write(header + ZERO_OFFSET, 0);
}

static bool is_sound(uint8_t index, size_t length, size_t frame_length) {
    size_t half = piece_length(frame_length);
    return index <= 1 && frame_length >= ETHERNET_HEADER_SIZE && half <= PIECE_BYTES_MAX &&
           length == PIECE_HEADER + half;
}

static struct piece_place *place_of(struct piece_table *table, uint16_t id) {
    return &table->places[(id >> 1) % PIECE_PLACES]; /* a frame's two messages use two counters */
}

static bool is_other_half(const struct piece_place *place, uint16_t id, size_t frame_length,
                          uint8_t index, uint64_t now_ns) {
    return place->came_ns != 0 && place->id == id && place->frame_length == frame_length &&
           place->index != index && now_ns < place->came_ns + PIECE_WAIT_NS;
}

/* What has come just now moves to its place in the frame, and the other half beside it. */
static void join(const struct piece_place *place, uint8_t *content, size_t half,
                 size_t frame_length) {
    uint8_t *frame = content + MESSAGE_TYPE_LENGTH;
    if (place->index == 0) {
        memmove(frame + half, content + PIECE_HEADER, frame_length - half);
        memcpy(frame, place->bytes, half);
    } else {
        memmove(frame, content + PIECE_HEADER, half);
        memcpy(frame + half, place->bytes, frame_length - half);
    }
}

enum piece_end piece_take(struct piece_table *table, uint8_t *content, size_t length,
                          uint64_t now_ns, size_t *frame_length, bool *has_lost, enum ecn *ecn) {
    *has_lost = false;
    if (length <= PIECE_HEADER)
        return PIECE_BAD;
    uint16_t id = le16_read(content + ID_OFFSET);
    uint8_t index = content[INDEX_OFFSET];
    *frame_length = le16_read(content + FRAME_LENGTH_OFFSET);
    if (!is_sound(index, length, *frame_length))
        return PIECE_BAD;
    struct piece_place *place = place_of(table, id);
    if (is_other_half(place, id, *frame_length, index, now_ns)) {
        join(place, content, piece_length(*frame_length), *frame_length);
        *ecn = place->ecn == ECN_CE ? ECN_CE : *ecn;
        place->came_ns = 0;
        return PIECE_JOINED;
    }
    *has_lost = place->came_ns != 0;
    place->came_ns = now_ns;
    place->id = id;
    place->frame_length = (uint16_t)*frame_length;
    place->index = index;
    place->ecn = (uint8_t)*ecn;
    memcpy(place->bytes, content + PIECE_HEADER, length - PIECE_HEADER);
    return PIECE_KEPT;
}

void pieces_forget(struct piece_table *table) {
    for (int i = 0; i < PIECE_PLACES; i++)
        table->places[i].came_ns = 0;
}
