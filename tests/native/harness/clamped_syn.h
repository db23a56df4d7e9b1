/* A SYN that says how long TCP's segments may be, for tests of where that is lowered. */
#ifndef CLAMPED_SYN_H
#define CLAMPED_SYN_H

#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "sealing.h"
#include "packet/vnet.h"

enum {
    MTU = 1420,
    HEADERS = 40, /* of IPv4 and TCP */
    OFFERED = 1460,
    TCP = 20, /* where these begin */
    CHECKSUM = TCP + 16,
    MSS = TCP + 22,
    SYN_LENGTH = TCP + 24,
    A_CHECKSUM = 0x1234,
};

/* Its checksum is still to be made. */
static const struct vnet unfinished = {
    .flags = VNET_NEEDS_CSUM, .csum_start = TCP, .csum_offset = CHECKSUM - TCP};

static uint8_t syn[SYN_LENGTH];

static inline void make_syn(uint32_t source, uint32_t destination) {
    static const uint8_t option[] = {2, 4, OFFERED >> 8, OFFERED & 0xff};
    ipv4_make(syn, SYN_LENGTH, source, destination);
    syn[9] = 6;
    syn[TCP + 12] = 24 / 4 << 4;
    syn[TCP + 13] = 0x02;
    memcpy(syn + MSS - 2, option, sizeof option);
    be16_write(syn + CHECKSUM, A_CHECKSUM);
}

static inline void check_syn(const uint8_t *packet, unsigned mss, bool is_adjusted) {
    CHECK_EQUAL(be16_read(packet + MSS), mss);
    CHECK_EQUAL(be16_read(packet + CHECKSUM) != A_CHECKSUM, is_adjusted);
}

#endif
