/* train_fill: how long the train is that the last record began or continues, as the link-writer will
 * see it (datagram_train.h). The next super-packet's first record fills it up: a train that is cut
 * short costs the kernel as much as a full one.
 */
#ifndef FASTUN_OUTBOUND_TRAIN_FILL_H
#define FASTUN_OUTBOUND_TRAIN_FILL_H

#include "shared/ring.h"

enum {
    TRAIN_SEGMENTS_MAX = 64,          /* UDP_MAX_SEGMENTS of the kernels before 6.9 */
    TRAIN_BYTES_MAX = 65535 - 20 - 8, /* without the headers of IPv4, which counts them, and UDP */
};

struct train_fill {
    uint32_t slot, link_id, ecn;
    uint32_t segment;
    uint32_t n_bytes;
};

static inline bool train_fill_is_even(const struct train_fill *fill) {
    return fill->segment != 0 && fill->n_bytes % fill->segment == 0;
}

static inline bool train_fill_continues(const struct train_fill *fill,
                                        const struct ring_record *record, uint32_t segment) {
    uint32_t n_bytes = fill->n_bytes + record->length;
    bool is_last = record->length == segment && segment < fill->segment;
    return (segment == fill->segment || is_last) && record->slot == fill->slot &&
           record->link_id == fill->link_id && record->ecn == fill->ecn &&
           train_fill_is_even(fill) && n_bytes <= TRAIN_BYTES_MAX &&
           (n_bytes + fill->segment - 1) / fill->segment <= TRAIN_SEGMENTS_MAX;
}

/* The record was committed. */
static inline void train_fill_note(struct train_fill *fill, const struct ring_record *record) {
    uint32_t segment = record->segment == SEGMENT_WHOLE ? record->length : record->segment;
    if (train_fill_continues(fill, record, segment))
        fill->n_bytes += record->length;
    else
        *fill = (struct train_fill){record->slot, record->link_id, record->ecn, segment,
                                    record->length};
}

/* How many more such datagrams the train takes; 0: they begin another. */
static inline size_t train_fill_room(const struct train_fill *fill,
                                     const struct ring_record *record, uint32_t segment) {
    if (segment != fill->segment || !train_fill_continues(fill, record, segment))
        return 0;
    size_t n = fill->n_bytes / segment, most = TRAIN_BYTES_MAX / segment;
    return (most < TRAIN_SEGMENTS_MAX ? most : TRAIN_SEGMENTS_MAX) - n;
}

/* How many of `n` messages like this record, each of its length, go into the next record: what the
 * train has room for where that saves a train, else as many as one takes. */
static inline int train_fill_take(const struct train_fill *fill, const struct ring_record *like,
                                  int n) {
    int room = (int)train_fill_room(fill, like, like->length);
    int most = (int)(TRAIN_BYTES_MAX / like->length);
    most = most < 1 ? 1 : most < TRAIN_SEGMENTS_MAX ? most : TRAIN_SEGMENTS_MAX;
    bool is_saved = room < n && (n - room + most - 1) / most < (n + most - 1) / most;
    most = is_saved ? room : most;
    return n < most ? n : most;
}

#endif
