/* frame_writer: records of the inbound ring become frames of the device, each counted as delivered
 * or with the reason why not.
 */
#ifndef FASTUN_INBOUND_FRAME_WRITER_H
#define FASTUN_INBOUND_FRAME_WRITER_H

#include "packet/gro.h"
#include "inbound/tun_writer.h"

/* Records that are to be one frame. They must stay in the ring until it is written. */
struct frame_run {
    struct gro_group group;
    const struct ring_view *records[GRO_PACKETS_MAX];
};

/* Writes the record, or keeps it in the run (empty at first: group.n_packets is 0) for a later one
 * to follow; what it does not continue is written first. When the device is gone loop->error says
 * so, and what comes after is dropped and counted. */
void frame_run_add(struct tun_writer *writer, struct frame_run *run,
                   const struct ring_view *record);
/* Writes what the run still holds. */
void frame_run_end(struct tun_writer *writer, struct frame_run *run);

#endif
