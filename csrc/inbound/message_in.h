/* message_in: one message from the network becomes a frame in the ring, or is dropped and counted.
 *
 * What streams and UDP have in common for the link-reader. All that comes from the network is
 * checked here: index, tag, counter, type, IP version, offload header, and that the inner source
 * belongs to the sender. Who may be answered, and where a peer is, is decided only by what has
 * opened.
 */
#ifndef FASTUN_INBOUND_MESSAGE_IN_H
#define FASTUN_INBOUND_MESSAGE_IN_H

#include "loop/loop.h"

/* How a message was brought in. The times are read once for many messages. */
struct arrival {
    int slot;                           /* whose stream; -1 on UDP, where the key says who it is */
    const struct udp_address *endpoint; /* on UDP: where it came from */
    uint64_t now_ns;
    uint64_t boottime_ns;
};

enum {
    /* Control messages of a peer on UDP that reach the gateway; each costs it some 50 us. A search
     * of the path's MTU takes some 20 questions, which on a near path come in one burst; the peer's
     * answers to ours and the hellos come beside them. */
    CONTROLS_PER_SECOND = 20,
    CONTROLS_BURST = 60,
};

enum inbound_end {
    INBOUND_MORE, /* done with: go on */
    INBOUND_FULL, /* the ring has no room: the same message again later */
    INBOUND_EVENT /* done with, and loop->event has something for the gateway */
};

/* `message` without its length prefix, at least 1 and at most MESSAGE_MAX bytes. */
enum inbound_end inbound_pass(struct loop *loop, const struct arrival *arrival,
                              const uint8_t *message, size_t length);
/* Counts a message that was taken in and goes no further. */
void inbound_drop(struct loop *loop, enum stats_drop reason, size_t length);
/* Ring space that any message finds room in. */
size_t inbound_space_max(void);
void inbound_publish(struct loop *loop, uint64_t n_messages);

#endif
