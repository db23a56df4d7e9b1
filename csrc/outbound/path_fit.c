#define _GNU_SOURCE
#include "outbound/path_fit.h"

#include "outbound/answer.h"
#include "outbound/in_pieces.h"
#include "packet/byteorder.h"
#include "packet/headers.h"

enum fit path_fit_longer(const struct tun_reader *reader, const struct tun_reader_link *link,
                         const uint8_t *packet, size_t length) {
    if (reader->loop.mode == MODE_TAP)
        return pieces_fit(&link->format, length, path_whole_max(link)) ? FITS_IN_PIECES
                                                                       : FITS_IN_FRAGMENTS;
    bool is_ipv4 = ip_version(packet) == 4;
    if (is_ipv4 && (be16_read(packet + IPV4_FRAGMENT_OFFSET) & IPV4_DONT_FRAGMENT) == 0)
        return FITS_IN_FRAGMENTS;
    /* No IPv6 sender goes below its least MTU (RFC 8200 section 5). */
    if (!is_ipv4 && length <= IPV6_MTU_MIN)
        return FITS_IN_FRAGMENTS;
    return FITS_NOT;
}

void path_refuse(struct tun_reader *reader, unsigned slot, const struct frame *frame,
                 uint64_t n_packets) {
    size_t mtu = reader->links[slot]->packet_max;
    if (ip_version(frame_packet(frame)) == 6 && mtu < IPV6_MTU_MIN)
        mtu = IPV6_MTU_MIN;
    bool is_answered = answer_sender(reader, ANSWER_TOO_BIG, slot, frame, mtu);
    frame_drop(reader,
               is_answered ? DROP_tun_reader_exceeds_path_mtu
                           : DROP_tun_reader_exceeds_path_mtu_unanswered,
               n_packets, frame->length);
}
