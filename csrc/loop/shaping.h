/* shaping: peers with a rate limit, whose frames wait their turn, or are dropped.
 *
 *   within the rate, and nothing waits      passes
 *   above it                                waits in the peer's queue, for 100 ms of the rate at most
 *   the queue is full                       dropped
 *   the peer has used up its quota          dropped
 *
 * A queue and not drops alone: TCP then meets a link of that rate, sees its round trip time grow and
 * fills it, where a policer makes it stop and wait for timeouts (at 1 Mbit/s for most of the time).
 * A super-packet that would take long at the rate waits as the packets that it is made of, since to
 * lose it whole would be to lose a window.
 *
 * Bytes count as the network sees them: of a super-packet each segment's headers. Limits are of
 * slots, in each direction: private to the tun-reader, which has frames that are not sealed yet, and
 * to the link-reader, which has opened them. A peer without a limit costs one load and one branch.
 */
#ifndef FASTUN_LOOP_SHAPING_H
#define FASTUN_LOOP_SHAPING_H

#include "loop/link_queue.h"
#include "loop/rate_limit.h"
#include "packet/encapsulation.h"
#include "shared/peer_table.h"

enum {
    /* What may wait, in time at the rate: a round trip of a long way, so that one TCP flow fills the
     * link; no more, since all that the peer does waits behind it. */
    SHAPED_WAIT_MS = 100,
    /* And at least some ten packets: TCP's first window. */
    SHAPED_WAIT_BYTES_MIN = 16 * 1024,
    /* A burst at least: what a worker that wakes up late makes up for. */
    SHAPED_BURST_MS_MIN = 20,
    /* A super-packet that takes longer is cut. */
    SHAPED_FRAME_MS = 10,
    /* For what exceeds the queues' shares: 16 peers can each hold the most that one may. */
    SHAPING_POOL_BYTES = 32 * 1024 * 1024,
    SHAPED_SEGMENT_MAX = 65535 + ETHERNET_HEADER_SIZE + VLAN_TAGS_MAX * VLAN_TAG_SIZE,
};

struct shaper {
    struct rate_limit limit;
    bool is_cut_off;         /* its quota is used up: nothing passes */
    uint64_t held_bytes;     /* that wait */
    struct link_queue queue; /* entries are frames with their virtio_net_hdr */
};

struct shaping {
    struct shaper *shapers[N_PEER_SLOTS]; /* NULL: no limit */
    uint16_t holding[N_PEER_SLOTS];       /* slots of peers whose frames wait, in no order */
    unsigned n_holding;
    struct queue_pool pool;
    uint8_t segment[VNET_LENGTH + SHAPED_SEGMENT_MAX]; /* of the super-packet that is being cut */
};

/* What became of a frame. What waits is neither; of a super-packet that was cut a part may be
 * dropped. */
struct shaped {
    bool passes;
    bool is_cut_off;    /* why it was dropped */
    uint32_t n_dropped; /* packets, */
    size_t dropped_bytes;
};

void shaping_init(struct shaping *shaping);
void shaping_free(struct shaping *shaping);
/* Between two runs. `rate` in bytes a second, 0 for none: what waits then goes on at once.
 * Returns 0 or -errno. */
int shaping_set(struct shaping *shaping, unsigned slot, uint64_t rate, uint64_t burst_bytes,
                bool is_cut_off);
/* A frame of a peer that has a limit; `vnet_bytes` is its virtio_net_hdr, which it follows. */
struct shaped shaping_take(struct shaping *shaping, unsigned slot, enum mode mode,
                           const uint8_t *vnet_bytes, size_t length, uint64_t now_ns);

/* The first frame of the `i`-th peer that holds some, of n_holding; it stays. false: its time has
 * not come. */
bool shaping_first(const struct shaping *shaping, unsigned i, uint64_t now_ns,
                   struct queue_entry *entry, const uint8_t **bytes);
/* Removes it, and charges for it. The last peer takes the place of one that holds none any more. */
void shaping_pop(struct shaping *shaping, unsigned i, uint64_t now_ns);
/* Drops what waits for the slot's peer, which has left it. Returns how many packets, and of how many
 * bytes. */
uint64_t shaping_empty(struct shaping *shaping, unsigned slot, uint64_t now_ns, uint64_t *n_bytes);
/* After how many ms, at least 1, a frame may pass; some are held. */
int shaping_wait_ms(const struct shaping *shaping, uint64_t now_ns);

#endif
