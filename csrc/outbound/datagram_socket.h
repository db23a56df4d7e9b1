/* datagram_socket: one sendmsg on a UDP socket that all peers share: to the peer's address, from
 * the one that it knows, whole or in fragments. */
#ifndef FASTUN_OUTBOUND_DATAGRAM_SOCKET_H
#define FASTUN_OUTBOUND_DATAGRAM_SOCKET_H

#include "host/udp_address.h"
#include "outbound/link_writer.h"

/* Looks whether the peer has moved. */
void datagram_refresh_endpoint(struct link_writer *writer, struct writer_link *link);

/* What reaches the peer in place of a socket that is not there; the same where none is. */
struct loop_socket *datagram_other_socket(struct link_writer *writer,
                                          const struct writer_link *link);

/* When sockets come and go, the link-reader may hear of it before this worker, or after it. */
static inline struct loop_socket *datagram_socket(struct link_writer *writer,
                                                  const struct writer_link *link) {
    struct loop_socket *own = &writer->sockets[link->endpoint.socket_index % N_SOCKETS];
    return own->fd >= 0 ? own : datagram_other_socket(writer, link);
}

/* What one sendmsg carries. */
struct parcel {
    struct iovec *iov;
    size_t n_iov;
    size_t segment;        /* 0: it is one datagram; else the kernel cuts it */
    uint8_t traffic_class; /* or TOS of the outer header */
};

/* The envelope and the iov live as long as the message. */
void datagram_address(struct link_writer *writer, struct writer_link *link,
                      struct envelope *envelope, const struct parcel *parcel,
                      struct msghdr *message);
/* The message was refused with `error`, or not yet sent (0). If our source address may be the
 * cause, it is sent without; if that works, the address is not used for a while. Returns 0 or the
 * errno. */
int datagram_send_anyhow(struct link_writer *writer, struct writer_link *link,
                         const struct parcel *parcel, int flags, int error);
/* "Don't fragment" is set on the socket, not on the datagram (ip(7), ipv6(7)). Returns 0 or
 * -errno. */
int datagram_set_may_fragment(const struct loop_socket *where, bool may);

#endif
