/* message_in: one message from the network becomes a frame in the ring, or is dropped and counted.
 *
 * What streams and UDP have in common for the link-reader. All that comes from the network is
 * checked here: index, tag, counter, type, IP version, offload header, and that the inner source
 * belongs to the sender. Where a peer is, and what may be answered, is decided only by what has
 * opened.
 */
#ifndef FASTUN_INBOUND_MESSAGE_IN_H
#define FASTUN_INBOUND_MESSAGE_IN_H

#include "inbound/link_reader.h"

enum {
    /* Control messages of a peer on UDP that reach the gateway; each costs it some 50 us. A search
     * of the path's MTU takes some 20 questions, which on a near path come in one burst; the peer's
     * answers to ours and the hellos come beside them. */
    CONTROLS_PER_SECOND = 20,
    CONTROLS_BURST = 60,
};

/* What a message has become. */
struct opened {
    struct ring_record *record; /* the ring's next one */
    uint8_t *front;             /* where content in it begins */
    uint8_t *content;           /* here it lies; elsewhere in the record if it may be a piece */
    size_t length;
};

/* `message` without its length prefix, at least 1 and at most MESSAGE_MAX bytes. STEP_MORE: go
 * on with the next. STEP_RING_FULL: the same message again later. STEP_EVENT: go on with the next
 * one once the gateway has loop->event. */
enum step message_forward(struct link_reader *reader, const struct arrival *arrival,
                          const uint8_t *message, size_t length);
/* The content becomes a frame, or is dropped. */
void message_commit(struct link_reader *reader, unsigned slot, const struct link_format *format,
                    const struct opened *opened, const struct arrival *arrival);
/* Brings a frame that lies in the record on its way: to the device, or to other peers of a TAP. */
void message_deliver(struct link_reader *reader, unsigned slot, struct ring_record *record,
                     struct message_inbound *inbound, uint64_t now_ns);
/* Counts a message that was read and goes no further; returns STEP_MORE. */
enum step message_drop(struct link_reader *reader, enum stats_drop reason, size_t length);
/* Ring space in which any message finds room. */
size_t message_space_max(void);
void message_publish(struct link_reader *reader, uint64_t n_messages);

#endif
