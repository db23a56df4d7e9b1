/* crossing: frames that one lane's tun-reader has read for a peer that another lane carries.
 *
 * The kernel gives a flow's packets to the queue that its last packet was written to, so what a
 * peer's answers belong to comes out in the lane that carries the peer. What does not (the first
 * packets of a flow, or those of a flow without answers) crosses: its tun-reader puts it into a ring
 * of the other lane's, which seals it under the session that it alone has. It crosses once: what has
 * come from another lane stays.
 *
 * A full ring drops and does not wait: a lane is not held up by another. Each pair of lanes has a
 * ring, with one producer and one consumer as all rings. What is in it another process has written:
 * it is checked as the hairpin's is. Belongs to the tun-reader; NULL: there is one lane.
 */
#ifndef FASTUN_OUTBOUND_CROSSING_H
#define FASTUN_OUTBOUND_CROSSING_H

#include "lanes.h"
#include "outbound/frame.h"
#include "outbound/unanswered.h"

/* Which lanes carry a peer. */
struct crossing_ways {
    uint8_t n;
    bool by_flow;
    uint8_t lanes[LANES_MAX];
};

/* The indices by which all lanes seal for a peer on UDP (own_packets.h). */
struct crossing_sealed {
    unsigned n;
    uint32_t indices[LANES_MAX];
};

struct crossing {
    unsigned lane, n_lanes;
    bool spreads; /* lanes.h */
    struct ring *incoming[LANES_MAX], *outgoing[LANES_MAX];
    int wake_fd;
    unsigned next; /* the lane whose ring is looked at first */
    struct unanswered unanswered;
    struct crossing_ways ways[N_PEER_SLOTS];
    struct crossing_sealed sealed[N_PEER_SLOTS];
};

/* Goes on where a predecessor was killed. NULL: no memory. */
struct crossing *crossing_new(const struct lane_crossing *ends, struct stats_block *stats);
void crossing_free(struct crossing *crossing);
/* Packets that have crossed to other lanes, since the rings were made. */
uint64_t crossing_n_packets(const struct crossing *crossing);

/* Whether all frames for the peer go to another lane. */
bool crossing_leads_away(const struct crossing *crossing, unsigned slot);
/* Whether the frame, for the peer of arrival->slot, was for another lane: it is counted then, and
 * there or dropped. */
bool crossing_takes(struct tun_reader *reader, const struct frame *frame,
                    const struct arrival *arrival);
/* Makes what has crossed visible. */
void crossing_publish(struct tun_reader *reader);
/* Forwards and publishes what has come, up to a burst a lane. STEP_IDLE: no more is there. */
enum step crossing_burst(struct tun_reader *reader);
/* Sleeps until the device or another lane has a frame, or the time has passed (-1: never). */
enum step crossing_wait(struct tun_reader *reader, int timeout_ms);

#endif
