/* captured_out: what the outbound direction shows a capture. */
#ifndef FASTUN_OUTBOUND_CAPTURED_OUT_H
#define FASTUN_OUTBOUND_CAPTURED_OUT_H

#include "outbound/frame.h"
#include "outbound/link_writer.h"

/* frame_forward, and a capture has the frame as it was read. */
size_t captured_forward(struct tun_reader *reader, struct ring_record *record, size_t read_length,
                        struct arrival *arrival);
/* A frame that has waited for a session in vain. Without a capture, nothing. */
void captured_waited(struct tun_reader *reader, unsigned slot, const struct frame *frame);

/* The messages in a record, which have gone out, or were dropped for the reason (N_DROPS: not).
 * Without a capture, nothing. */
void captured_record(struct link_writer *writer, const struct ring_view *record,
                     enum stats_drop reason);
/* A message of the gateway's; on a stream with its length in front. */
void captured_message(struct link_writer *writer, unsigned slot, const uint8_t *message,
                      size_t length);
/* Drops and counts a record. */
void captured_drop(struct link_writer *writer, const struct ring_view *record,
                   enum stats_drop reason);

#endif
