/* split_link: the tun-reader with one peer that may take no super-packets: frames are given to its
 * device, and what it puts into its ring is compared with the segments that a network card would
 * send (super_packet.h). */
#ifndef SPLIT_LINK_H
#define SPLIT_LINK_H

#include "sender.h"
#include "super_packet.h"

enum { SLOT = 3, FRAMES_MAX = 64, MTU = 1420 };

/* The frames given to the device, and where in them the ring is. */
struct given {
    struct super_packet frame;
    bool is_plain;
};

extern struct given given[FRAMES_MAX];
extern size_t n_given, next_frame, next_segment;
extern struct random noise;

void open_link(struct link_format format, enum aead aead);

void give_super(const struct super_packet_shape *shape);
void give_plain(size_t length);
/* TCP over IPv4, in segments of `size` bytes. */
static inline struct super_packet_shape tcp4(size_t size, size_t payload) {
    return (struct super_packet_shape){.version = 4, .size = size, .payload = payload};
}

/* All records in the ring are what is due of the given frames. Returns the packets in them. */
uint64_t take_all(const struct link_format *format, enum aead aead);

#endif
