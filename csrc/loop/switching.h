/* switching: what link-reader and tun-reader of a TAP device with many peers agree on.
 *
 * Frames of one peer for others go through the hairpin, a ring from the link-reader to the
 * tun-reader, each with its virtio_net_hdr. A record's `slot` is the sender's, its `link_id` the
 * slot of the peer that it is for, or HAIRPIN_TO_ALL.
 *
 * Broadcast, multicast and frames for an unknown address are copied for each peer, so one sender
 * could make many times its own traffic. Each peer has allowances of its own, and so has this
 * host's side: of packets, and of their copies, since it is the copies that are sealed and sent.
 * ARP, neighbour discovery and DHCP of a thousand hosts need some hundreds a second.
 */
#ifndef FASTUN_LOOP_SWITCHING_H
#define FASTUN_LOOP_SWITCHING_H

#include "loop/token_bucket.h"

#define HAIRPIN_TO_ALL UINT32_MAX

enum {
    FLOODS_PER_SECOND = 1000, /* packets of one sender */
    FLOODS_BURST = 2000,
    /* Of ten peers each may flood as much as above; of a hundred, a tenth of it. */
    COPIES_PER_SECOND = 10000,
    COPIES_BURST = 20000,
};

static inline bool flood_may_go(uint64_t *full_at_ns, uint64_t now_ns, uint64_t n_packets) {
    unsigned n = n_packets < FLOODS_BURST ? (unsigned)n_packets : FLOODS_BURST;
    return tokens_take(full_at_ns, now_ns, FLOODS_PER_SECOND, FLOODS_BURST, n);
}

/* More copies than the burst of it are one flood in two seconds. */
static inline bool copies_may_go(uint64_t *full_at_ns, uint64_t now_ns, uint64_t n_copies) {
    unsigned n = n_copies < COPIES_BURST ? (unsigned)n_copies : COPIES_BURST;
    return tokens_take(full_at_ns, now_ns, COPIES_PER_SECOND, COPIES_BURST, n);
}

#endif
