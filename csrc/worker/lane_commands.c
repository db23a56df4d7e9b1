/* lane_commands: which lanes carry a peer, and by what, for a tun-reader that has others beside it. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "outbound/crossing.h"
#include "outbound/own_packets.h"

int loop_set_ways(struct loop *loop, unsigned slot, const uint8_t *lanes, unsigned n, int by_flow) {
    struct tun_reader *reader = tun_reader_of(loop);
    struct crossing *crossing = reader != NULL ? reader->crossing : NULL;
    if (crossing == NULL || slot >= N_PEER_SLOTS || n > crossing->n_lanes)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++)
        if (lanes[i] >= crossing->n_lanes)
            return -EINVAL;
    struct crossing_ways *ways = &crossing->ways[slot];
    ways->n = (uint8_t)n;
    ways->by_flow = by_flow != 0;
    memcpy(ways->lanes, lanes, n);
    return 0;
}

int loop_set_sealed_for(struct loop *loop, unsigned slot, const uint32_t *indices, unsigned n) {
    struct tun_reader *reader = tun_reader_of(loop);
    struct crossing *crossing = reader != NULL ? reader->crossing : NULL;
    if (crossing == NULL || slot >= N_PEER_SLOTS || n > crossing->n_lanes)
        return -EINVAL;
    struct crossing_sealed *sealed = &crossing->sealed[slot];
    sealed->n = n;
    for (unsigned i = 0; i < n; i++)
        sealed->indices[i] = indices[i];
    own_packets_changed(reader->own_packets);
    return 0;
}
