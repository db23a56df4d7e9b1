/* datagram_link: the reader of sealed_link.h with a UDP socket beside its stream, and two sockets
 * on loopback that send to it.
 *
 * Nothing tells that a socket is empty. So datagrams_run sends a control message of its own, under
 * a key of another peer, and runs the loop in this thread until that one comes out.
 */
#ifndef DATAGRAM_LINK_H
#define DATAGRAM_LINK_H

#include "sealed_link.h"

enum { N_SENDERS = 2, DATAGRAM_SOCKET = 2 /* its index */, HEARD_MAX = 2048 };

extern const uint8_t mac1_key[AEAD_KEY_SIZE];
/* Where each sender is, as the loop should see it. */
extern struct udp_address sender_endpoints[N_SENDERS];

/* The reader with the peer's key. With offload the kernel joins datagrams (UDP_GRO). */
void datagrams_open(enum aead aead, bool has_offload);
void datagrams_close(void);

void datagram_send(unsigned sender, const void *bytes, size_t length);
/* Datagrams of `segment` bytes, the last one shorter, which the kernel need not take apart. */
void datagrams_send_train(unsigned sender, const void *bytes, size_t length, size_t segment);
/* The TOS of what the sender sends from now on. */
void datagrams_set_class(unsigned sender, int traffic_class);
/* What is in `sealed`, without its length prefix. */
void datagram_send_sealed(unsigned sender);
/* A packet of the peer's under its key. */
void datagram_send_good(unsigned sender, uint64_t counter);

/* The peer's endpoint, as the loop has learned or was given it. */
bool endpoint_is(unsigned slot, const struct udp_address *expected);
/* A datagram that the loop has sent to the sender; false: there is none. */
bool datagram_hear(unsigned sender, uint8_t bytes[HEARD_MAX], size_t *length);

/* The loop takes all that was sent; events are kept in reader.events. */
void datagrams_run(void);

#endif
