/* in_pieces: frames for a peer on UDP that joins two halves (packet/pieces.h): each a message.
 *
 * Used by frame.c for single frames, and by splitting.c for the segments of a super-packet.
 */
#ifndef FASTUN_OUTBOUND_IN_PIECES_H
#define FASTUN_OUTBOUND_IN_PIECES_H

#include "outbound/frame.h"
#include "packet/pieces.h"

enum {
    PIECES_LEAD = DATA_HEADER + PIECE_HEADER,        /* room in front of the frame */
    PIECES_GAP = DATA_TAG + PIECES_LEAD,             /* between the halves */
    PIECES_SPACE = 2 * (PIECES_LEAD + DATA_TAG) + 1, /* what two messages take beside the frame */
};

/* Whether the halves of such a frame fit in messages of `content_max` bytes. */
static inline bool pieces_fit(const struct link_format *format, size_t frame_length,
                              size_t content_max) {
    size_t half = piece_length(frame_length);
    return (format->joins_pieces & JOINS_FRAMES) != 0 && half <= PIECE_BYTES_MAX &&
           PIECE_HEADER + half <= content_max;
}

/* Makes the frame two sealed messages, one behind the other, in *message; it has PIECES_LEAD bytes
 * of room in front and PIECES_GAP + DATA_TAG + 1 behind. false: the key is used up. */
bool pieces_seal(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                 uint8_t *frame, size_t length, struct message_outbound *message);

#endif
