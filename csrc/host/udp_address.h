/* udp_address: where a peer is on UDP, as the kernel's socket calls say it.
 *
 * One form for both families, so that it can be in shared memory and be compared bytewise. A
 * socket of IPv6 may carry IPv4 as well: its addresses are then mapped (RFC 4291 2.5.5.2), on the
 * socket only; in a struct udp_address they are always IPv4's own.
 */
#ifndef FASTUN_HOST_UDP_ADDRESS_H
#define FASTUN_HOST_UDP_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "fastun.h"

/* Room for IPV6_PKTINFO and IP_PKTINFO, which both come with IPv4 on an IPv6 socket, for one
 * IP_TOS or IPV6_TCLASS, and for one UDP_SEGMENT or UDP_GRO. */
enum {
    ENVELOPE_CONTROL_SIZE = CMSG_SPACE(sizeof(struct in6_pktinfo)) +
                            CMSG_SPACE(sizeof(struct in_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))
};

/* The source of a datagram and, from its control messages, the local address to answer from (the
 * socket has IP_PKTINFO, and IPV6_RECVPKTINFO for IPv6); never a broadcast or multicast one. The
 * family stays unset if the source is not an IP address. */
void udp_address_read(struct udp_address *endpoint, unsigned socket_index, struct msghdr *message);

/* The address to send to on a socket of `socket_family`. Returns its length, 0 when that socket
 * cannot reach it. */
socklen_t udp_address_write(const struct udp_address *endpoint, int socket_family,
                            struct sockaddr_in6 *address);
/* Appends the address to send from, so that the peer hears us where it knows us, to the control
 * messages. Nothing when it is unknown. `message` has room for it at msg_control +
 * msg_controllen. */
void udp_address_write_source(const struct udp_address *endpoint, int socket_family,
                              struct msghdr *message);

/* Appends the TOS or traffic class of the outer header, as udp_address_write_source does. */
void udp_address_write_class(const struct udp_address *endpoint, uint8_t traffic_class,
                             struct msghdr *message);
/* That of a received message from its control messages, 0 where there is none (the socket has
 * IP_RECVTOS, and IPV6_RECVTCLASS for IPv6). */
uint8_t udp_address_read_class(struct msghdr *message);

/* What a message's header points into. */
struct envelope {
    struct sockaddr_in6 address;
    _Alignas(struct cmsghdr) uint8_t control[ENVELOPE_CONTROL_SIZE];
};

/* Both of them, for a socket of `socket_family`. The envelope lives as long as the message's
 * header; what the header carries is the caller's. */
void udp_address_envelope(const struct udp_address *endpoint, int socket_family,
                          struct envelope *envelope, struct msghdr *message);

bool udp_address_equal(const struct udp_address *a, const struct udp_address *b);
/* Whether a datagram from `heard` has nothing new about the peer's endpoint: it is the same, or the
 * same but for our address, on an interface that was left. */
bool udp_address_is_known(const struct udp_address *known, const struct udp_address *heard);

/* Appends one control message. */
void control_append(struct msghdr *message, int level, int type, const void *data, size_t length);

#endif
