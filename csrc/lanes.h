/* lanes: how the tun-readers of several lanes pass frames to one another, a part of fastun.h by its
 * rules. csrc/outbound/crossing.h says when they do.
 */
#ifndef FASTUN_LANES_H
#define FASTUN_LANES_H

#include "fastun.h"

enum { LANES_MAX = 16 };

/* A tun-reader's ends of the rings between lanes, by the number of the other lane; its own: NULL. */
struct lane_crossing {
    unsigned lane, n_lanes;
    int spreads; /* a peer that no lane carries is for the lane of its slot, else for lane 0 */
    struct ring *incoming[LANES_MAX], *outgoing[LANES_MAX];
    int wake_fds[LANES_MAX]; /* eventfds: each lane's, its own among them */
};

/* tun-reader: the lanes that carry the peer, `n` numbers; a frame goes to the one of its flow
 * (`by_flow`), else to this lane if it is among them. None: to the one that asks for
 * a session (`spreads`). */
int loop_set_ways(struct loop *loop, unsigned slot, const uint8_t *lanes, unsigned n, int by_flow);
/* tun-reader: the `n` indices by which all lanes seal for the peer on UDP: what a route has led back
 * into the device, to whichever queue, is known by them. */
int loop_set_sealed_for(struct loop *loop, unsigned slot, const uint32_t *indices, unsigned n);

#endif
