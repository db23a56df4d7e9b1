#define _GNU_SOURCE
#include "loop/reconcile.h"

static uint64_t read_counter(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t count_dropped(const struct loop *loop) {
    uint64_t n = 0;
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        n += read_counter(&loop->stats->drops[drop]); /* the others' are 0 in this block */
    return n;
}

static void drop_lost(struct loop *loop, enum stats_drop reason, uint64_t counted, uint64_t moved) {
    if (counted > moved)
        stats_dropped(loop->stats, reason, counted - moved);
}

/* What went to other peers; the ring knows better than a counter what was published. */
static uint64_t count_switched(struct loop *loop) {
    uint64_t n_packets = loop->hairpin != NULL ? loop->hairpin->n_packets : 0;
    peer_set(&loop->stats->counters[COUNTER_switched], n_packets);
    return n_packets;
}

void reconcile(struct loop *loop, uint64_t n_crossed) {
    loop->ring->is_orphaned = false;
    if (loop->role == ROLE_tun_writer)
        ring_leave_begun(loop->ring, loop->stats);
    uint64_t n_packets = read_counter(&loop->stats->counters[COUNTER_packets]);
    uint64_t n_dropped = count_dropped(loop);
    uint64_t n_released = ring_released_packets(loop->ring);
    switch (loop->role) {
    case ROLE_tun_reader:
        peer_set(&loop->stats->counters[COUNTER_crossed], n_crossed);
        drop_lost(loop, DROP_tun_reader_worker_died, n_packets - n_dropped,
                  loop->ring->n_packets + n_crossed);
        break;
    case ROLE_link_reader:
        drop_lost(loop, DROP_link_reader_worker_died, n_packets - n_dropped,
                  loop->ring->n_packets + count_switched(loop));
        break;
    case ROLE_link_writer:
        drop_lost(loop, DROP_link_writer_worker_died, n_released, n_packets + n_dropped);
        break;
    default:
        drop_lost(loop, DROP_tun_writer_worker_died, n_released, n_packets + n_dropped);
    }
    bool is_writer = loop->role == ROLE_link_writer || loop->role == ROLE_tun_writer;
    if (is_writer && n_packets + n_dropped > n_released)
        loop->n_counted_already = n_packets + n_dropped - n_released;
}
