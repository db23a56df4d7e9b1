/* datagram_train: records for peers on UDP, put together to what one sendmsg can carry.
 *
 * A train is up to TRAIN_SEGMENTS_MAX datagrams for one peer, all equally long but the last, which
 * the kernel or the network card cuts apart (UDP_SEGMENT, udp(7)).
 */
#ifndef FASTUN_OUTBOUND_DATAGRAM_TRAIN_H
#define FASTUN_OUTBOUND_DATAGRAM_TRAIN_H

#include <sys/uio.h>

#include "outbound/link_writer.h"
#include "outbound/train_fill.h"

enum { TRAINS_MAX = 64 };

/* One sendmsg's worth. */
struct train {
    struct writer_link *link;
    size_t segment; /* bytes of each datagram but the last */
    size_t n_bytes;
    int n_segments;
    int first, n_records; /* of the records in all trains */
    bool may_fragment;
    enum ecn ecn; /* one IP header is all that the kernel has for them */
};

struct trains {
    struct train trains[TRAINS_MAX];
    int n;
    const struct ring_view *records[BATCH_RECORDS_MAX]; /* in the order of the trains */
    struct iovec iov[BATCH_RECORDS_MAX];
    int n_records;
};

/* Appends the record to the last train, or as the first of another. false: there is no room for
 * another train. */
bool trains_append(struct trains *trains, struct writer_link *link, const struct ring_view *record);
/* The bytes of the train's datagram that begins at `offset`: never across two records, since a
 * record holds whole datagrams. */
struct iovec train_datagram(const struct trains *trains, const struct train *train, size_t offset);
/* How many of the record's packets are lost with the first `n_failed` datagrams of its train, less
 * those of the records before it, which are taken off. */
uint32_t train_count_lost(const struct ring_view *record, uint32_t *n_failed);

#endif
