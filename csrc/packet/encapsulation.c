#include "packet/encapsulation.h"

#include <string.h>

#include "packet/amplification.h"
#include "packet/byteorder.h"

static size_t l3_offset(enum mode mode) {
    return mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0;
}

bool message_is_frame(enum mode mode, const uint8_t *frame, size_t length) {
    if (mode == MODE_TAP)
        return length >= ETHERNET_HEADER_SIZE;
    if (length < IPV4_HEADER_SIZE)
        return false;
    switch (ip_version(frame)) {
    case 4:
        return true;
    case 6:
        return length >= IPV6_HEADER_SIZE;
    default:
        return false;
    }
}

/* -- outbound ---------------------------------------------------------------------------------- */

/* The type and its three bytes are right before `at`. */
static uint8_t *prepend_type(uint8_t *at, uint8_t type) {
    uint8_t *start = at - MESSAGE_TYPE_LENGTH;
    memset(start, 0, MESSAGE_TYPE_LENGTH);
    start[0] = type;
    return start;
}

static uint8_t *plain_start(const struct link_format *format, uint8_t *frame) {
    if (format->wire != WIRE_SIMPLETUN && format->mode == MODE_TAP)
        return prepend_type(frame, MESSAGE_ETHERNET);
    return frame;
}

static uint8_t *message_start(const struct link_format *format, const struct vnet *vnet,
                              uint8_t *vnet_bytes) {
    uint8_t *frame = vnet_bytes + VNET_LENGTH;
    if (!vnet_is_plain(vnet)) {
        vnet_write(vnet, vnet_bytes);
        return prepend_type(vnet_bytes, MESSAGE_SUPER);
    }
    return plain_start(format, frame);
}

void message_encapsulate_plain(const struct link_format *format, uint8_t *frame,
                               size_t frame_length, struct message_outbound *outbound) {
    uint8_t *start = plain_start(format, frame);
    *outbound = (struct message_outbound){
        .start = start,
        .length = (size_t)(frame - start) + frame_length,
        .n_packets = 1,
        .is_bare = format->mode == MODE_TUN,
    };
}

int message_check_own(enum mode mode, struct vnet *vnet, const uint8_t *vnet_bytes,
                      size_t frame_length) {
    *vnet = vnet_read(vnet_bytes);
    /* "Checksum verified" is our own kernel's word; the far end has no reason to believe it. */
    vnet->flags &= (uint8_t)~VNET_DATA_VALID;
    return vnet_check_local(vnet, vnet_bytes + VNET_LENGTH, frame_length, l3_offset(mode));
}

/* `vnet` was checked and has `n_packets`. The peer makes the same check. */
static bool takes_checked(const struct link_format *format, const struct vnet *vnet, int n_packets,
                          const uint8_t *frame, size_t frame_length) {
    if (vnet->gso_type == VNET_GSO_NONE)
        return true;
    return n_packets > 0 && format->super_outbound && !vnet_has_many_segments(vnet, frame_length) &&
           !(format->splits_udp && vnet->gso_type == VNET_GSO_UDP_L4) &&
           !amplifies(vnet, n_packets, frame, frame_length);
}

bool message_takes_whole(const struct link_format *format, const uint8_t *vnet_bytes,
                         size_t frame_length) {
    struct vnet vnet = vnet_read(vnet_bytes);
    if (vnet.gso_type == VNET_GSO_NONE)
        return true;
    int n_packets = message_check_own(format->mode, &vnet, vnet_bytes, frame_length);
    return takes_checked(format, &vnet, n_packets, vnet_bytes + VNET_LENGTH, frame_length);
}

enum message_fault message_encapsulate(const struct link_format *format, uint8_t *vnet_bytes,
                                       size_t frame_length, struct message_outbound *outbound) {
    uint8_t *frame = vnet_bytes + VNET_LENGTH;
    struct vnet vnet;
    if (!message_is_frame(format->mode, frame, frame_length))
        return MESSAGE_NOT_IP;
    outbound->n_packets = message_check_own(format->mode, &vnet, vnet_bytes, frame_length);
    if (!takes_checked(format, &vnet, outbound->n_packets, frame, frame_length))
        return outbound->n_packets < 0 ? MESSAGE_BAD_VIRTIO : MESSAGE_NOT_OFFERED;
    if (outbound->n_packets < 0 || (!format->super_outbound && !vnet_is_plain(&vnet))) {
        if (!vnet_complete(&vnet, frame, frame_length, l3_offset(format->mode)))
            return MESSAGE_BAD_VIRTIO;
        outbound->n_packets = 1;
    }

    uint8_t *start = message_start(format, &vnet, vnet_bytes);
    size_t message_length = (size_t)(frame - start) + frame_length;
    if (message_length > format->message_max)
        return MESSAGE_TOO_LARGE;
    outbound->start = start;
    outbound->length = message_length;
    outbound->is_bare = start == frame && format->mode == MODE_TUN;
    outbound->ecn = ecn_of_frame(format->mode, frame, frame_length);
    return MESSAGE_OK;
}

uint64_t message_count_packets(enum mode mode, const uint8_t *vnet_bytes, size_t frame_length) {
    struct vnet vnet;
    int n = message_check_own(mode, &vnet, vnet_bytes, frame_length);
    return n > 0 ? (uint64_t)n : 1;
}

void message_prefix(struct message_outbound *outbound) {
    outbound->start -= STREAM_LENGTH_PREFIX;
    be16_write(outbound->start, (uint16_t)outbound->length);
    outbound->length += STREAM_LENGTH_PREFIX;
}

/* -- inbound ----------------------------------------------------------------------------------- */

static enum message_fault take_frame(const struct link_format *format, uint8_t *frame,
                                     size_t length, struct message_inbound *inbound) {
    if (!message_is_frame(format->mode, frame, length))
        return MESSAGE_NOT_IP;
    inbound->frame = frame;
    inbound->length = length;
    inbound->n_packets = vnet_check(&inbound->vnet, frame, length, l3_offset(format->mode));
    if (inbound->n_packets < 0)
        return MESSAGE_BAD_VIRTIO;
    bool is_super = inbound->vnet.gso_type != VNET_GSO_NONE;
    return is_super && amplifies(&inbound->vnet, inbound->n_packets, frame, length)
               ? MESSAGE_AMPLIFIES
               : MESSAGE_OK;
}

/* The length of an IP packet by its own header, where the wire pads; what claims more than there is
 * keeps its length, and the kernel refuses it. */
static size_t unpadded(const struct link_format *format, const uint8_t *packet, size_t length) {
    if (format->wire != WIRE_WIREGUARD || !message_is_frame(MODE_TUN, packet, length))
        return length;
    size_t own = ip_packet_length(packet);
    return own < length ? own : length;
}

static enum message_fault take_super(const struct link_format *format, uint8_t *message,
                                     size_t length, struct message_inbound *inbound) {
    size_t header = MESSAGE_TYPE_LENGTH + VNET_LENGTH;
    if (!format->super_inbound)
        return MESSAGE_BAD_TYPE;
    if (length < header)
        return MESSAGE_BAD_VIRTIO;
    inbound->vnet = vnet_read(message + MESSAGE_TYPE_LENGTH);
    return take_frame(format, message + header, length - header, inbound);
}

enum message_fault message_decapsulate(const struct link_format *format, uint8_t *message,
                                       size_t length, struct message_inbound *inbound) {
    inbound->vnet = (struct vnet){0};
    if (format->wire == WIRE_SIMPLETUN)
        return take_frame(format, message, length, inbound);
    switch (message[0]) {
    case MESSAGE_CONTROL: /* only in the hello, which the gateway has read */
        return MESSAGE_BAD_TYPE;
    case MESSAGE_SUPER:
        return take_super(format, message, length, inbound);
    case MESSAGE_ETHERNET:
        if (format->mode != MODE_TAP)
            return MESSAGE_BAD_TYPE;
        if (length < MESSAGE_TYPE_LENGTH)
            return MESSAGE_NOT_IP;
        return take_frame(format, message + MESSAGE_TYPE_LENGTH, length - MESSAGE_TYPE_LENGTH,
                          inbound);
    default:
        /* A bare IP packet on a TUN link; what is neither that nor a type we know is not IP. */
        if (format->mode != MODE_TUN)
            return MESSAGE_BAD_TYPE;
        return take_frame(format, message, unpadded(format, message, length), inbound);
    }
}
