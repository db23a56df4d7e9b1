/* formats: what links may carry, by wire. */
#ifndef FORMATS_H
#define FORMATS_H

#include "packet/encapsulation.h"
#include "session/session.h"

static inline struct link_format plain_format(enum mode mode, bool super) {
    return (struct link_format){.wire = WIRE_PLAIN,
                                .mode = mode,
                                .super_outbound = super,
                                .super_inbound = super,
                                .message_max = MESSAGE_MAX};
}

/* The original: no super-packets, and its buffer is small. */
static inline struct link_format simpletun_format(enum mode mode) {
    return (struct link_format){
        .wire = WIRE_SIMPLETUN, .mode = mode, .message_max = SIMPLETUN_MESSAGE_MAX};
}

static inline struct link_format sealed_format(enum mode mode, bool super) {
    struct link_format format = plain_format(mode, super);
    format.wire = WIRE_WIREGUARD;
    format.message_max = SEALED_CONTENT_MAX;
    return format;
}

/* To a peer on UDP, whose device has this MTU. */
static inline struct link_format datagram_format(size_t mtu) {
    struct link_format format = sealed_format(MODE_TUN, false);
    format.is_datagram = true;
    format.mtu = mtu;
    return format;
}

#endif
