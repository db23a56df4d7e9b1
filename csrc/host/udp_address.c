#define _GNU_SOURCE
#include "host/udp_address.h"

#include <arpa/inet.h>
#include <string.h>

#include "packet/headers.h"

enum { MAPPED_PREFIX = IPV6_ADDRESS_SIZE - IPV4_ADDRESS_SIZE };

static const uint8_t mapped_prefix[MAPPED_PREFIX] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_mapped(const struct in6_addr *address) {
    return memcmp(address, mapped_prefix, MAPPED_PREFIX) == 0;
}

/* -- reading ----------------------------------------------------------------------------------- */

static void read_source4(struct udp_address *endpoint, const struct sockaddr_in *source) {
    endpoint->family = UDP_ADDRESS_IPV4;
    endpoint->port = ntohs(source->sin_port);
    memcpy(endpoint->address, &source->sin_addr, IPV4_ADDRESS_SIZE);
}

static void read_source6(struct udp_address *endpoint, const struct sockaddr_in6 *source) {
    bool mapped = is_mapped(&source->sin6_addr);
    endpoint->family = mapped ? UDP_ADDRESS_IPV4 : UDP_ADDRESS_IPV6;
    endpoint->port = ntohs(source->sin6_port);
    endpoint->zone = mapped ? 0 : source->sin6_scope_id;
    if (mapped)
        memcpy(endpoint->address, source->sin6_addr.s6_addr + MAPPED_PREFIX, IPV4_ADDRESS_SIZE);
    else
        memcpy(endpoint->address, &source->sin6_addr, IPV6_ADDRESS_SIZE);
}

/* Not the destination address in the packet, which may be broadcast or multicast: for those the
 * kernel chooses an address that we can send from (fib_compute_spec_dst in
 * net/ipv4/fib_frontend.c). */
static void read_local4(struct udp_address *endpoint, const struct in_pktinfo *info) {
    memcpy(endpoint->local, &info->ipi_spec_dst, IPV4_ADDRESS_SIZE);
    endpoint->local_zone = (uint32_t)info->ipi_ifindex;
}

/* On an IPv6 socket an IPv4 address is given twice; this one is the destination in the packet. */
static void read_local6(struct udp_address *endpoint, const struct in6_pktinfo *info) {
    if (!is_mapped(&info->ipi6_addr) && !IN6_IS_ADDR_MULTICAST(&info->ipi6_addr))
        memcpy(endpoint->local, &info->ipi6_addr, IPV6_ADDRESS_SIZE);
    endpoint->local_zone = (uint32_t)info->ipi6_ifindex;
}

static void read_local(struct udp_address *endpoint, const struct cmsghdr *control) {
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(control), sizeof info);
        read_local4(endpoint, &info);
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
        struct in6_pktinfo info;
        memcpy(&info, CMSG_DATA(control), sizeof info);
        read_local6(endpoint, &info);
    }
}

void udp_address_read(struct udp_address *endpoint, unsigned socket_index, struct msghdr *message) {
    const struct sockaddr *source = message->msg_name;
    *endpoint = (struct udp_address){.socket_index = socket_index};
    if (message->msg_namelen >= sizeof(struct sockaddr_in) && source->sa_family == AF_INET)
        read_source4(endpoint, message->msg_name);
    else if (message->msg_namelen >= sizeof(struct sockaddr_in6) && source->sa_family == AF_INET6)
        read_source6(endpoint, message->msg_name);
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control))
        read_local(endpoint, control);
}

/* IPv4's comes as a byte, IPv6's as an int. */
uint8_t udp_address_read_class(struct msghdr *message) {
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control)) {
        int traffic_class;
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS)
            return *CMSG_DATA(control);
        if (control->cmsg_level != IPPROTO_IPV6 || control->cmsg_type != IPV6_TCLASS)
            continue;
        memcpy(&traffic_class, CMSG_DATA(control), sizeof traffic_class);
        return (uint8_t)traffic_class;
    }
    return 0;
}

/* -- writing ----------------------------------------------------------------------------------- */

static void write_ip6(const struct udp_address *endpoint, const uint8_t *address,
                      struct in6_addr *written) {
    if (endpoint->family == UDP_ADDRESS_IPV6) {
        memcpy(written, address, IPV6_ADDRESS_SIZE);
        return;
    }
    memcpy(written->s6_addr, mapped_prefix, MAPPED_PREFIX);
    memcpy(written->s6_addr + MAPPED_PREFIX, address, IPV4_ADDRESS_SIZE);
}

socklen_t udp_address_write(const struct udp_address *endpoint, int socket_family,
                            struct sockaddr_in6 *address) {
    if (endpoint->family == UDP_ADDRESS_UNKNOWN)
        return 0;
    if (socket_family == AF_INET6) {
        *address = (struct sockaddr_in6){
            .sin6_family = AF_INET6,
            .sin6_port = htons(endpoint->port),
            .sin6_scope_id = endpoint->zone,
        };
        write_ip6(endpoint, endpoint->address, &address->sin6_addr);
        return sizeof *address;
    }
    if (endpoint->family != UDP_ADDRESS_IPV4)
        return 0;
    struct sockaddr_in *address4 = (struct sockaddr_in *)(void *)address;
    *address4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
    memcpy(&address4->sin_addr, endpoint->address, IPV4_ADDRESS_SIZE);
    return sizeof *address4;
}

void control_append(struct msghdr *message, int level, int type, const void *data, size_t length) {
    struct cmsghdr *control =
        (struct cmsghdr *)(void *)((uint8_t *)message->msg_control + message->msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(control), data, length);
    message->msg_controllen += CMSG_SPACE(length);
}

void udp_address_write_source(const struct udp_address *endpoint, int socket_family,
                              struct msghdr *message) {
    static const uint8_t unknown[IPV6_ADDRESS_SIZE];
    if (memcmp(endpoint->local, unknown, IPV6_ADDRESS_SIZE) == 0)
        return;
    /* The interface is left to the routing table, but for a link-local address, where it is part
     * of the address: after a change of routes the reply must be free to leave another way. */
    if (socket_family == AF_INET6) {
        struct in6_pktinfo info = {.ipi6_ifindex = endpoint->zone};
        write_ip6(endpoint, endpoint->local, &info.ipi6_addr);
        control_append(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, endpoint->local, IPV4_ADDRESS_SIZE);
        control_append(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
}

/* By the family of the packet, not of the socket: IPV6_TCLASS says nothing about IPv4 on an IPv6
 * socket. */
void udp_address_write_class(const struct udp_address *endpoint, uint8_t traffic_class,
                             struct msghdr *message) {
    int value = traffic_class;
    if (endpoint->family == UDP_ADDRESS_IPV4)
        control_append(message, IPPROTO_IP, IP_TOS, &value, sizeof value);
    else
        control_append(message, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
}

void udp_address_envelope(const struct udp_address *endpoint, int socket_family,
                          struct envelope *envelope, struct msghdr *message) {
    message->msg_name = &envelope->address;
    message->msg_namelen = udp_address_write(endpoint, socket_family, &envelope->address);
    message->msg_control = envelope->control;
    message->msg_controllen = 0;
    udp_address_write_source(endpoint, socket_family, message);
}

bool udp_address_equal(const struct udp_address *a, const struct udp_address *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

bool udp_address_is_known(const struct udp_address *known, const struct udp_address *heard) {
    if (udp_address_equal(known, heard))
        return true;
    return known->local_zone == (heard->local_zone | UDP_ADDRESS_LEFT) &&
           memcmp(known, heard, offsetof(struct udp_address, local_zone)) == 0;
}
