/* gro: packets of one flow that follow one another become one super-packet.
 *
 * The reverse of segmentation. A kernel that gets N packets as one frame runs its receive path once
 * instead of N times. What must hold is that a later split gives back the packets that came: so
 * everything in the headers that a split does not count up is equal in all of them.
 *
 *   IPv4    no options, no fragment; same TOS, TTL and DF; ids that count up, or with DF all equal
 *           (such an id says nothing: RFC 6864 4.1; a later split counts it up)
 *   IPv6    no extension header; same traffic class, flow label and hop limit
 *   TCP     the next sequence number; same acknowledgement, window and options; no flag but ACK,
 *           and PSH in the last
 *   UDP     a checksum that is not zero
 *   both    same addresses and ports; payloads of one size, the last may be smaller
 *   TAP     same Ethernet header, without VLAN tag, in front of each packet
 *
 * A super-packet's checksum is left to be completed, which vouches for its payload. Therefore every
 * packet's own checksums are verified before it joins; one that is wrong stays alone and is for the
 * kernel to drop and count. A packet that finds no other is not summed at all.
 *
 * Source: RFC 9293, RFC 768; net/ipv4/tcp_offload.c and udp_offload.c say what a split does.
 */
#ifndef FASTUN_PACKET_GRO_H
#define FASTUN_PACKET_GRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "packet/vnet.h"

enum {
    /* What vnet_check lets pass of UDP; TCP fills 64 KiB with fewer of any usual size. */
    GRO_PACKETS_MAX = 64,
    GRO_HEADERS_MAX = 14 + 40 + 60, /* Ethernet, IPv6, and TCP with all its options */
};

/* A super-packet being built. The packets' bytes are borrowed: they must stay until it is written,
 * and are never changed. */
struct gro_group {
    size_t n_packets; /* 0: it is empty */
    bool is_udp;
    struct iovec iov[1 + GRO_PACKETS_MAX]; /* gro_finish: our headers, then the payloads */

    /* gro.c's own */
    const uint8_t *first;       /* its IP header */
    size_t lead;                /* bytes of Ethernet in front of each packet: 14, or none */
    size_t transport, header;   /* where in each packet the TCP or UDP header begins and ends */
    size_t gso_size, n_payload; /* bytes: the first payload's, all payloads' */
    uint16_t id_step;           /* IPv4: from one packet's id to the next's, 0 or 1 */
    bool is_first_verified;
    bool is_pushed; /* the last has PSH */
    bool is_closed; /* nothing can follow */
    uint8_t headers[VNET_LENGTH + GRO_HEADERS_MAX];
};

/* Makes the frame, an IP packet behind `lead` bytes of Ethernet, the group's first, by a look at its
 * headers. false: it cannot be followed by any other; the group is empty. */
bool gro_begin(struct gro_group *group, const uint8_t *frame, size_t length, size_t lead);

/* Takes the frame, which has a lead of the same length, into the group if it continues it. false:
 * the group is as it was, but may have been closed. */
bool gro_extend(struct gro_group *group, const uint8_t *frame, size_t length);

/* Writes the headers of a group of two packets or more; returns how many of group->iov are the
 * frame, virtio_net_hdr included. */
int gro_finish(struct gro_group *group);

#endif
