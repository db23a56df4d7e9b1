#define _GNU_SOURCE
#include "outbound/whole_pieces.h"

#include <string.h>

#include "outbound/path_fit.h"
#include "packet/amplification.h"
#include "packet/pieces.h"

enum { SLICE_MIN = 256 };

/* -- which, and how ---------------------------------------------------------------------------- */

/* The peer checks as much: see takes_checked in encapsulation.c. */
static bool peer_takes(const struct tun_reader_link *link, const struct splitting *splitting,
                       const struct vnet *vnet) {
    return link->format.is_datagram && (link->format.joins_pieces & JOINS_SUPER_PACKETS) != 0 &&
           !splitting->split.is_udp &&
           !amplifies(vnet, splitting->n_packets, splitting->split.frame, splitting->split.length);
}

/* A piece is as long as the path's longest packet; 0: that is unknown. */
static size_t slice_of(const struct tun_reader_link *link) {
    size_t most = link->packet_max != 0 ? path_whole_max(link) : link->format.mtu;
    return most < PIECE_HEADER + SLICE_MIN ? 0 : most - PIECE_HEADER;
}

/* Zeros that make the last piece as long as the others, so that the next super-packet's pieces follow
 * in the same train; 0 where they would be much of the whole. */
static size_t padding_of(size_t whole, size_t slice) {
    size_t padding = (slice - whole % slice) % slice;
    return padding <= whole / 8 && padding <= PIECE_PADDING_MAX ? padding : 0;
}

bool whole_pieces_begin(struct tun_reader *reader, const struct tun_reader_link *link,
                        const struct vnet *vnet, const struct arrival *arrival, int n_max) {
    struct splitting *splitting = reader->splitting;
    size_t slice = slice_of(link), whole = VNET_LENGTH + splitting->split.length;
    if (slice == 0 || whole > PIECE_WHOLE_MAX || !peer_takes(link, splitting, vnet))
        return false;
    int n = (int)((whole + slice - 1) / slice);
    if (n > n_max || n > PIECES_MAX ||
        !piece_flows_may(&splitting->flows, (unsigned)arrival->slot, &splitting->split,
                         arrival->now_ns))
        return false;
    uint8_t *start = splitting_frame(splitting);
    vnet_write(vnet, start);
    memset(start + whole, 0, padding_of(whole, slice));
    splitting->is_whole = true;
    splitting->slice = slice;
    splitting->whole = whole;
    splitting->n_counted = 0;
    splitting->session = link->sending->receiver_index;
    splitting->n_segments = n;
    return true;
}

/* -- its pieces -------------------------------------------------------------------------------- */

static size_t length_of(const struct splitting *splitting, int i) {
    size_t left = splitting->whole - (size_t)i * splitting->slice;
    if (i < splitting->n_segments - 1)
        return splitting->slice;
    return left + padding_of(splitting->whole, splitting->slice);
}

/* Seals the next piece behind the message. Its header lies in front of it meanwhile, over the end of
 * the piece before. */
static bool seal_next(struct tun_reader *reader, struct tun_reader_link *link,
                      struct message_outbound *message) {
    struct splitting *splitting = reader->splitting;
    int i = splitting->next;
    uint8_t *content = splitting_frame(splitting) + (size_t)i * splitting->slice - PIECE_HEADER;
    uint8_t covered[PIECE_HEADER];
    struct message_outbound piece = {
        .start = message->start + message->length + DATA_HEADER,
        .length = PIECE_HEADER + length_of(splitting, i),
    };
    memcpy(covered, content, sizeof covered);
    piece_write_header(content, (unsigned)i,
                       (uint16_t)(session_next_counter(link->sending) - (uint64_t)i),
                       splitting->whole, splitting->slice);
    bool is_sealed =
        frame_seal_from(reader, link, (unsigned)splitting->arrival.slot, content, &piece);
    memcpy(content, covered, sizeof covered);
    splitting->next += is_sealed;
    message->length += is_sealed ? piece.length : 0;
    return is_sealed;
}

/* The frame's packets are counted with its pieces; those that are sealed once more, under another
 * key, were counted. */
static int count_packets(struct splitting *splitting) {
    int counted = (int)((int64_t)splitting->n_packets * splitting->next / splitting->n_segments);
    int n = counted > splitting->n_counted ? counted - splitting->n_counted : 0;
    splitting->n_counted += n;
    return n;
}

bool whole_pieces_fill(struct tun_reader *reader, struct tun_reader_link *link,
                       struct ring_record *record) {
    struct splitting *splitting = reader->splitting;
    size_t space = DATA_MESSAGE_MIN + PIECE_HEADER + splitting->slice;
    const struct ring_record like = {.slot = (unsigned)splitting->arrival.slot,
                                     .link_id = link->id,
                                     .ecn = splitting->ecn,
                                     .length = (uint32_t)space};
    struct message_outbound message = {.start = (uint8_t *)record + sizeof *record,
                                       .ecn = splitting->ecn};
    if (splitting->session != link->sending->receiver_index) {
        splitting->session = link->sending->receiver_index; /* pieces of one whole have one key */
        splitting->next = 0;
    }
    int n = train_fill_take(&reader->train_fill, &like, splitting->n_segments - splitting->next);
    /* All at the beginning: their counters follow one another, by which the peer knows them. */
    bool is_sealed =
        splitting->next > 0 || session_draw(link->sending, (unsigned)splitting->n_segments);
    for (int i = 0; i < n && is_sealed; i++)
        is_sealed = seal_next(reader, link, &message);
    message.n_packets = count_packets(splitting);
    size_t n_bytes =
        splitting->split.length * (size_t)message.n_packets / (size_t)splitting->n_packets;
    if (message.length > 0)
        frame_commit(reader, record, &splitting->arrival, &message, n_bytes, (uint32_t)space);
    return is_sealed;
}
