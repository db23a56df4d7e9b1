/* A packet, disturbed or not, and what vnet_check says of it. */
#ifndef VNET_CASE_H
#define VNET_CASE_H

#include "check.h"
#include "super_packet.h"

enum {
    IPV4 = 20,
    IPV6 = 40,
    TCP = 20,
    UDP = 8,
    REFUSED = -1,
    N_SHAPES = 4000,
    N_DISTURBED = 100000
};

static struct super_packet packet;
static struct random noise = {17};

static struct vnet checked; /* as it was left */

typedef int check_function(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3);

static inline int check_with(check_function *function) {
    uint8_t *exact = malloc(packet.length);
    CHECK(exact != NULL);
    memcpy(exact, packet.bytes, packet.length);
    checked = packet.vnet;
    int n_packets = function(&checked, exact, packet.length, packet.l3);
    CHECK_EQUAL(memcmp(exact, packet.bytes, packet.length), 0);
    free(exact);
    return n_packets;
}

static inline int check(void) {
    return check_with(vnet_check);
}

static inline void make_shape(struct super_packet_shape shape) {
    super_packet_make(&packet, &noise, &shape);
}

static inline void make(int version, bool is_udp, size_t size, size_t payload) {
    make_shape((struct super_packet_shape){
        .version = version, .is_udp = is_udp, .size = size, .payload = payload});
}

/* The same packet, not as a super-packet. */
static inline void make_single(int version, bool is_udp, size_t payload) {
    make(version, is_udp, payload, payload);
    packet.vnet.gso_type = VNET_GSO_NONE;
}

/* Cuts the frame, which goes on to say the length that it has. */
static inline void cut(size_t length) {
    super_packet_cut(&packet, length);
}

static inline struct super_packet_shape random_shape(void) {
    struct super_packet_shape shape = super_packet_any_kind(&noise);
    shape.ip_options = random_below(&noise, 2) * 8 * random_below(&noise, 6);
    shape.tcp_flags = (uint8_t)random_next(&noise);
    shape.size = 8 + random_below(&noise, 100);
    shape.payload = 1 + random_below(&noise, 10 * shape.size);
    return shape;
}

#endif
