/* path_queue: how much a stream may have on its way, so that its own queue on the path stays short.
 *
 * TCP fills the queue before its bottleneck until that overflows: all that a tunnel carries then waits
 * there, and behind what was lost. What waits in the ring instead can be overtaken (overtaking.h), and its
 * senders be slowed down (codel.h).
 *
 *   looks      round-trip time, the least one, and what was delivered, as the kernel counts them, while the
 *              stream has more to send than it takes
 *   it queues  the round trip has been PATH_QUEUED_MS longer than the least one, for PATH_QUEUED_FOR_MS
 *   the limit  what is delivered in the least round trip and PATH_QUEUE_MS more
 *   given up   where that does not make the round trip short: the queue is others', which would get all of the
 *              bottleneck. After a pause, longer each time, it is tried again
 *   the end    the queue is gone although the stream has as much on its way as it may, or carries twice as
 *              much as when it was limited: the path has become faster
 *
 * Figures and times only: sockets are stream_path.c's.
 */
#ifndef FASTUN_OUTBOUND_PATH_QUEUE_H
#define FASTUN_OUTBOUND_PATH_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PATH_QUEUED_MS = 20,
    PATH_QUEUED_FOR_MS = 40,
    PATH_QUEUE_MS = 15,
    PATH_LIMIT_MIN = 8 * 1024,
    PATH_RATE_MS = 20,      /* for so long the rate is measured; the highest counts */
    PATH_RATES_MS = 200,    /* of the last two times so long */
    PATH_GAP_MS = 50,       /* who has not looked for so long begins anew */
    PATH_HELPS_IN_MS = 400, /* and four round trips */
    PATH_EMPTY_MS = 100,    /* the same: what is seen of the queue is a round trip old */
    PATH_PAUSE_MS = 10 * 1000,
    PATH_PAUSE_MAX_MS = 320 * 1000,
};

/* What the kernel says of a stream. */
struct path_figures {
    uint64_t round_trip_ns;
    uint64_t least_ns;
    uint32_t n_delivered; /* packets since it was made, modulo 2^32, */
    uint32_t packet;      /* each of so many bytes */
    uint64_t n_under_way; /* bytes that it has taken and not delivered */
};

/* All zeros: no look yet. */
struct path_queue {
    bool is_limited;
    uint64_t limit; /* bytes; counts if it is limited */
    uint64_t looked_ns;
    uint64_t begun_ns; /* the rate is measured since then: */
    uint32_t begun_at; /* n_delivered at that time, */
    uint32_t packet;   /* and how long packets have been since */
    uint64_t rates_ns;
    uint64_t rates[2];   /* the highest since rates_ns, and of the time before; bytes a second */
    uint64_t queued_ns;  /* there has been a queue since then; 0: there is none */
    uint64_t first_rate; /* limited: the rate when it began to be */
    uint64_t short_ns;   /* limited: when the round trip was last short */
    uint64_t empty_ns;   /* limited: there has been hardly a queue since then; 0: there is one */
    uint64_t paused_until_ns;
    uint64_t pause_ns;
};

void path_queue_look(struct path_queue *path, const struct path_figures *figures, uint64_t now_ns);
/* How much more the stream may take. */
uint64_t path_queue_room(const struct path_queue *path, const struct path_figures *figures);

#endif
