/* frame: one frame of the device becomes a record in the ring, or several, or is dropped and
 * counted.
 *
 *   a peer that takes super-packets, or a packet that is none: made a message and sealed where the
 *   device put it, one record
 *   a super-packet for a peer that takes none: splitting.h
 *   a peer on UDP without a session: parking.h
 *
 * Used by the tun-reader alone.
 */
#ifndef FASTUN_OUTBOUND_FRAME_H
#define FASTUN_OUTBOUND_FRAME_H

#include "host/device.h"
#include "outbound/tun_reader.h"

enum {
    FRAME_OFFSET = sizeof(struct ring_record) + MESSAGE_HEADROOM,
    /* Ring space in which any frame, or any part of a split one, finds room. */
    FRAME_SPACE = FRAME_OFFSET + VNET_LENGTH + DEVICE_FRAME_MAX + MESSAGE_TAILROOM,
};

/* What the device gave. */
struct frame {
    uint8_t *vnet; /* its virtio_net_hdr; the packet or Ethernet frame follows */
    size_t length; /* without that */
    uint32_t flow; /* as its record will say */
};

static inline uint8_t *frame_packet(const struct frame *frame) {
    return frame->vnet + VNET_LENGTH;
}

/* Where the device is to write the next frame, virtio_net_hdr first; `record` has FRAME_SPACE. */
uint8_t *frame_target(struct tun_reader *reader, struct ring_record *record);
/* Brings what the device wrote there, at least VNET_LENGTH bytes, on its way; fills in the
 * arrival's slot. Returns the bytes of the frame, 0 if it was dropped or waits. */
size_t frame_forward(struct tun_reader *reader, struct ring_record *record, size_t read_length,
                     struct arrival *arrival);
/* The same for a frame that lies there, for the peer of arrival->slot. */
size_t frame_forward_to(struct tun_reader *reader, struct ring_record *record, struct frame *frame,
                        const struct arrival *arrival);
/* The same for one that has passed its peer's rate limit; the link is open. */
size_t frame_forward_shaped(struct tun_reader *reader, struct ring_record *record,
                            struct frame *frame, const struct arrival *arrival);
/* A message of the gateway's: a control message, or an empty one, which keeps the session alive. At
 * most EVENT_BYTES_MAX. Returns 0, or -EAGAIN without a key or room. */
int frame_send_content(struct tun_reader *reader, unsigned slot, const uint8_t *content,
                       size_t length);

/* -- for splitting.c, parking.c and path_fit.c -- */

/* Whether the link can take frames. Nothing is sealed under a key that has expired or is used up.
 */
bool frame_link_is_open(const struct tun_reader *reader, const struct tun_reader_link *link,
                        uint64_t boottime_ns);
/* Counts a frame that was read and goes no further. */
void frame_drop(struct tun_reader *reader, enum stats_drop reason, uint64_t n_packets,
                size_t n_bytes);
/* Seals the message, where the wire does, and puts the length in front on a stream. false: the key
 * is used up. */
bool frame_seal(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                struct message_outbound *message);
/* Seals content that lies elsewhere into the message, for a peer on UDP. false: the same. */
bool frame_seal_from(struct tun_reader *reader, struct tun_reader_link *link, unsigned slot,
                     const uint8_t *content, struct message_outbound *message);
/* For the gateway to see: how much was sealed under the link's key. */
void frame_note_sealed(struct tun_reader *reader, const struct tun_reader_link *link,
                       unsigned slot);
void frame_mark_sent(struct tun_reader *reader, const struct arrival *arrival, bool is_data);
void frame_commit(struct tun_reader *reader, struct ring_record *record,
                  const struct arrival *arrival, const struct message_outbound *message,
                  size_t n_bytes, uint32_t segment);

#endif
