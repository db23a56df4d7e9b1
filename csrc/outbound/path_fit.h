/* path_fit: whether a packet fits the path to a peer on UDP, and what happens if it does not. */
#ifndef FASTUN_OUTBOUND_PATH_FIT_H
#define FASTUN_OUTBOUND_PATH_FIT_H

#include "outbound/frame.h"

enum fit { FITS, FITS_IN_PIECES, FITS_IN_FRAGMENTS, FITS_NOT };

/* The longest content that needs neither fragments nor pieces; the link has a packet_max. */
static inline size_t path_whole_max(const struct tun_reader_link *link) {
    bool is_bounded = link->whole_max != 0 && link->whole_max < link->packet_max;
    return is_bounded ? link->whole_max : link->packet_max;
}

/* For what is longer than the path's MTU. A packet that may not be fragmented, or need not since
 * its sender will send shorter ones, is answered with "too big"; the others are cut on the outside,
 * as IP itself would. Ethernet frames have no such answer: they go in two pieces to a peer that
 * joins them, else are cut like that. */
enum fit path_fit_longer(const struct tun_reader *reader, const struct tun_reader_link *link,
                         const uint8_t *packet, size_t length);

static inline enum fit path_fit(const struct tun_reader *reader, const struct tun_reader_link *link,
                                const uint8_t *packet, size_t length) {
    size_t type_length = reader->loop.mode == MODE_TAP ? MESSAGE_TYPE_LENGTH : 0;
    if (!link->format.is_datagram || link->packet_max == 0)
        return FITS;
    if (type_length + length > link->packet_max)
        return path_fit_longer(reader, link, packet, length);
    if (link->whole_max == 0 || type_length + length <= link->whole_max)
        return FITS;
    return reader->loop.mode == MODE_TAP ? path_fit_longer(reader, link, packet, length)
                                         : FITS_IN_FRAGMENTS;
}
/* Drops what does not fit, and sends its sender the MTU that would. */
void path_refuse(struct tun_reader *reader, unsigned slot, const struct frame *frame,
                 uint64_t n_packets);

#endif
