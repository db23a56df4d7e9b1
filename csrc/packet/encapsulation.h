/* encapsulation: what one frame of the device looks like on a link.
 *
 * Stream links carry `u16 big-endian length | message`. The message, by wire:
 *
 *   simpletun  the IP packet (TUN) or the Ethernet frame (TAP), nothing else
 *   plain      by its first byte:
 *     0x4_ 0x6_  an IP packet (TUN only)
 *     0x01       control: a msgpack map, only in the hello before the link is handed over
 *     0x02       super-packet: type, 3 zero bytes, virtio_net_hdr[12], packet or Ethernet frame
 *     0x03       Ethernet frame: type, 3 zero bytes, frame (TAP only)
 *   wireguard  WireGuard's handshake (types 1 to 3) and data messages (session.h), whose sealed
 *              content is one of the above, or nothing (a keepalive); IP packets are padded
 *
 * Outbound the headers are laid in front of the frame where the device put it; nothing is copied.
 * Inbound a message is taken apart in place; all that comes from the network is checked here.
 */
#ifndef FASTUN_PACKET_ENCAPSULATION_H
#define FASTUN_PACKET_ENCAPSULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastun.h"
#include "packet/ecn.h"
#include "packet/headers.h"
#include "packet/vnet.h"

enum {
    /* Room that must be free in front of a frame's virtio_net_hdr for outer headers: the stream's
     * prefix, WireGuard's 16 bytes, the type's 4; and behind the frame for padding and tag. */
    MESSAGE_HEADROOM = 32,
    MESSAGE_TAILROOM = 32,
};

/* The longest message that we take on a stream: a longer one breaks the framing. */
static inline size_t message_limit(enum wire wire) {
    return wire == WIRE_SIMPLETUN ? SIMPLETUN_MESSAGE_MAX : MESSAGE_MAX;
}

/* Why a frame was not laid out or a message not accepted. */
enum message_fault {
    MESSAGE_OK = 0,
    MESSAGE_NOT_IP,
    MESSAGE_BAD_VIRTIO,
    MESSAGE_TOO_LARGE,
    MESSAGE_NOT_OFFERED,
    MESSAGE_BAD_TYPE,
    MESSAGE_AMPLIFIES,
};

/* A frame in outbound form. */
struct message_outbound {
    uint8_t *start;
    size_t length;
    int n_packets;
    bool is_bare;  /* an IP packet without a type, which WireGuard pads */
    enum ecn ecn;  /* of the packet in it */
    uint32_t flow; /* 1 + its number (flow.h); 0: unknown */
};

/* `vnet` points at the frame's virtio_net_hdr[12]; the frame follows. MESSAGE_HEADROOM bytes before
 * it and the header itself may be overwritten; a checksum that the peer is not to complete, or that
 * vnet_check would not let it, is completed here. */
enum message_fault message_encapsulate(const struct link_format *format, uint8_t *vnet,
                                       size_t frame_length, struct message_outbound *outbound);
/* Whether the frame after this header may go to the peer whole, because the peer would accept it;
 * otherwise it has to be split. */
bool message_takes_whole(const struct link_format *format, const uint8_t *vnet,
                         size_t frame_length);
/* vnet_check_local of what the device handed over, behind `vnet_bytes`. */
int message_check_own(enum mode mode, struct vnet *vnet, const uint8_t *vnet_bytes,
                      size_t frame_length);
/* message_encapsulate for a segment of a split frame: complete, without virtio_net_hdr and known to
 * fit. */
void message_encapsulate_plain(const struct link_format *format, uint8_t *frame,
                               size_t frame_length, struct message_outbound *outbound);
/* The packets in such a frame, as the network counts; 1 where its header makes no sense. */
uint64_t message_count_packets(enum mode mode, const uint8_t *vnet, size_t frame_length);
/* Puts the stream's length prefix in front of a message. */
void message_prefix(struct message_outbound *outbound);

/* A frame taken from a message: `frame` points into the message. */
struct message_inbound {
    struct vnet vnet;
    uint8_t *frame;
    size_t length;
    int n_packets;
};

/* `message` without its length prefix, opened if it was sealed; at least 1 byte. */
enum message_fault message_decapsulate(const struct link_format *format, uint8_t *message,
                                       size_t length, struct message_inbound *inbound);

/* A whole IP header of version 4 or 6 (TUN), or a whole Ethernet header (TAP). */
bool message_is_frame(enum mode mode, const uint8_t *frame, size_t length);

#endif
