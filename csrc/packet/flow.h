/* flow: which flow a frame belongs to, as one of a few numbers.
 *
 * By addresses, protocol and ports, of a fragment without ports, of other frames by MAC addresses. Different
 * flows may have the same number.
 */
#ifndef FASTUN_PACKET_FLOW_H
#define FASTUN_PACKET_FLOW_H

#include <stddef.h>
#include <stdint.h>

#include "fastun.h"

enum { N_FLOWS = 256 };

uint64_t flow_hash(enum mode mode, const uint8_t *frame, size_t length);
/* From 0 to N_FLOWS - 1. The frame has a whole IP header, or Ethernet header on a TAP device. */
unsigned flow_of(enum mode mode, const uint8_t *frame, size_t length);

static inline unsigned flow_of_hash(uint64_t hash) {
    return (unsigned)(hash >> 24) % N_FLOWS;
}

#endif
