#include "outbound/datagram_train.h"

static size_t segment_of(const struct ring_view *record) {
    bool is_one = record->segment == SEGMENT_WHOLE || record->segment == SEGMENT_FRAGMENTS;
    return is_one || record->segment > record->length ? record->length : record->segment;
}

static int segments_of(const struct ring_view *record) {
    size_t segment = segment_of(record);
    return (int)((record->length + segment - 1) / segment);
}

/* The record is shared memory. */
static enum ecn ecn_of(const struct ring_view *record) {
    return record->ecn & ECN_MASK;
}

/* The record's datagrams can follow those of the train: that one is of whole segments so far, and
 * none here is longer. */
static bool continues(const struct train *train, const struct writer_link *link,
                      const struct ring_view *record) {
    bool is_even = train->n_bytes == train->segment * (size_t)train->n_segments;
    bool is_equal = segment_of(record) == train->segment ||
                    (segments_of(record) == 1 && record->length <= train->segment);
    return train->link == link && is_even && is_equal && train->ecn == ecn_of(record) &&
           train->may_fragment == (record->segment == SEGMENT_FRAGMENTS) &&
           train->n_segments + segments_of(record) <= TRAIN_SEGMENTS_MAX &&
           train->n_bytes + record->length <= TRAIN_BYTES_MAX;
}

bool trains_append(struct trains *trains, struct writer_link *link,
                   const struct ring_view *record) {
    struct train *train = trains->n > 0 ? &trains->trains[trains->n - 1] : NULL;
    if (train == NULL || !continues(train, link, record)) {
        if (trains->n == TRAINS_MAX)
            return false;
        train = &trains->trains[trains->n++];
        *train = (struct train){
            .link = link,
            .segment = segment_of(record),
            .first = trains->n_records,
            .may_fragment = record->segment == SEGMENT_FRAGMENTS,
            .ecn = ecn_of(record),
        };
    }
    trains->records[trains->n_records] = record;
    trains->iov[trains->n_records] = (struct iovec){record->payload, record->length};
    trains->n_records++;
    train->n_records++;
    train->n_bytes += record->length;
    train->n_segments += segments_of(record);
    return true;
}

struct iovec train_datagram(const struct trains *trains, const struct train *train, size_t offset) {
    int i = train->first;
    while (offset >= trains->iov[i].iov_len)
        offset -= trains->iov[i++].iov_len;
    size_t left = trains->iov[i].iov_len - offset;
    return (struct iovec){(uint8_t *)trains->iov[i].iov_base + offset,
                          left < train->segment ? left : train->segment};
}

/* A super-packet's packets are all in one datagram, a keepalive has none, and half a frame is lost
 * with its other half. */
uint32_t train_count_lost(const struct ring_view *record, uint32_t *n_failed) {
    uint32_t n_datagrams = (uint32_t)segments_of(record);
    uint32_t n_lost = *n_failed < n_datagrams ? *n_failed : n_datagrams;
    *n_failed -= n_lost;
    return (uint32_t)(((uint64_t)record->n_packets * n_lost + n_datagrams - 1) / n_datagrams);
}
