#define _GNU_SOURCE
#include "outbound/in_pieces.h"

#include <string.h>

static bool seal_half(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                      uint8_t *half, size_t length, struct message_outbound *message) {
    *message = (struct message_outbound){
        .start = half - PIECE_HEADER,
        .length = PIECE_HEADER + length,
        .n_packets = 1,
        .ecn = message->ecn,
    };
    return frame_seal(reader, link, slot, message);
}

bool pieces_seal(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                 uint8_t *frame, size_t length, struct message_outbound *message) {
    size_t half = piece_length(length);
    if (!session_draw(link->sending, 2))
        return false;
    uint16_t id = (uint16_t)session_next_counter(link->sending);
    uint8_t *second_half = frame + half + PIECES_GAP;
    struct message_outbound second = {.ecn = message->ecn};
    memmove(second_half, frame + half, length - half);
    second_half[half - 1] = length % 2 != 0 ? 0 : second_half[half - 1];
    piece_write_header(frame - PIECE_HEADER, 0, id, length, 0);
    piece_write_header(second_half - PIECE_HEADER, 1, id, length, 0);
    if (!seal_half(reader, link, slot, frame, half, message) ||
        !seal_half(reader, link, slot, second_half, half, &second))
        return false;
    message->length += second.length;
    return true;
}
