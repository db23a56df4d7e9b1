#define _GNU_SOURCE
#include "outbound/datagram_socket.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "packet/headers.h"

/* -- addresses --------------------------------------------------------------------------------- */

void datagram_refresh_endpoint(struct link_writer *writer, struct writer_link *link) {
    const struct peer_inbound *peer = &writer->loop.peers->by_link_reader[link->slot];
    if (peer_read_endpoint(peer, &link->endpoint_version, &link->endpoint))
        link->sourceless_until_ns = 0;
}

struct loop_socket *datagram_other_socket(struct link_writer *writer,
                                          const struct writer_link *link) {
    bool is_ipv6 = link->endpoint.family == UDP_ADDRESS_IPV6;
    for (int i = 0; i < N_SOCKETS; i++)
        if (writer->sockets[i].fd >= 0 && (!is_ipv6 || writer->sockets[i].family == AF_INET6))
            return &writer->sockets[i];
    return &writer->sockets[link->endpoint.socket_index % N_SOCKETS];
}

/* Whether to set our source address to the one that the peer knows. If it was removed, it may be
 * back. */
static bool has_source(struct writer_link *link) {
    if (link->sourceless_until_ns != 0 && clock_now_ns() >= link->sourceless_until_ns)
        link->sourceless_until_ns = 0;
    return link->sourceless_until_ns == 0;
}

void datagram_address(struct link_writer *writer, struct writer_link *link,
                      struct envelope *envelope, const struct parcel *parcel,
                      struct msghdr *message) {
    uint16_t segment_length = (uint16_t)parcel->segment;
    *message = (struct msghdr){.msg_iov = parcel->iov, .msg_iovlen = parcel->n_iov};
    udp_address_envelope(&link->endpoint, datagram_socket(writer, link)->family, envelope, message);
    if (!has_source(link))
        message->msg_controllen = 0; /* the routing table chooses the source */
    if (parcel->traffic_class != 0)
        udp_address_write_class(&link->endpoint, parcel->traffic_class, message);
    if (parcel->segment > 0)
        control_append(message, IPPROTO_UDP, UDP_SEGMENT, &segment_length, sizeof segment_length);
}

/* -- one message, with or without our source address ------------------------------------------- */

static int send_once(struct link_writer *writer, struct writer_link *link,
                     const struct parcel *parcel, int flags) {
    struct envelope envelope;
    struct msghdr message;
    datagram_address(writer, link, &envelope, parcel, &message);
    ssize_t n = sendmsg(datagram_socket(writer, link)->fd, &message, MSG_NOSIGNAL | flags);
    int error = n < 0 ? errno : 0;
    stats_call(writer->loop.stats, CALL_sendmsg);
    return error;
}

/* Whether a source address is set and `error` may be about it: it may have been removed since the
 * peer learned it, or may not be usable as a source (anycast). Linux returns EINVAL; recent
 * versions ENETUNREACH for IPv4. */
static bool may_be_the_source(struct writer_link *link, int error) {
    static const uint8_t unknown[sizeof link->endpoint.local];
    return (error == EINVAL || error == ENETUNREACH || error == EADDRNOTAVAIL) &&
           memcmp(link->endpoint.local, unknown, sizeof unknown) != 0 && has_source(link);
}

int datagram_send_anyhow(struct link_writer *writer, struct writer_link *link,
                         const struct parcel *parcel, int flags, int error) {
    if (error == 0)
        error = send_once(writer, link, parcel, flags);
    if (!may_be_the_source(link, error))
        return error;
    link->sourceless_until_ns = clock_now_ns() + REFUSED_RETRY_NS;
    error = send_once(writer, link, parcel, flags);
    if (error != 0)
        link->sourceless_until_ns = 0; /* the address was not the cause */
    return error;
}

/* -- fragments --------------------------------------------------------------------------------- */

/* Neither mode uses the kernel's PMTU cache, which anyone can write to by ICMP. Both use the
 * device's MTU; OMIT fragments what is longer, and lets IPv4 routers fragment. IPv6 routers do not,
 * so there fragments have the size that fits every path (IPV6_MTU, RFC 8200 section 5), which is
 * set only for this datagram because it would apply to all. */
int datagram_set_may_fragment(const struct loop_socket *where, bool may) {
    int discover = may ? IP_PMTUDISC_OMIT : IP_PMTUDISC_PROBE, cut_to = may ? IPV6_MTU_MIN : 0;
    int result = setsockopt(where->fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
    if (where->family == AF_INET6) {
        result |= setsockopt(where->fd, IPPROTO_IPV6, IPV6_MTU, &cut_to, sizeof cut_to);
        result |=
            setsockopt(where->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover, sizeof discover);
    }
    return result < 0 ? -errno : 0;
}
