#define _GNU_SOURCE
#include "outbound/crossing.h"

#include <stdlib.h>
#include <string.h>

#include "outbound/ring_in.h"
#include "packet/flow.h"

/* -- which lane -------------------------------------------------------------------------------- */

/* Which lane asks for a session with a peer that none carries. */
static unsigned asking_lane(const struct crossing *crossing, unsigned slot) {
    return crossing->spreads ? slot % crossing->n_lanes : 0;
}

static bool carries(const struct crossing_ways *ways, unsigned lane) {
    for (unsigned i = 0; i < ways->n; i++)
        if (ways->lanes[i] == lane)
            return true;
    return false;
}

/* This side alone decides, so that both ends do not follow each other in circles. */
static unsigned lane_by_flow(const struct tun_reader *reader, const struct crossing_ways *ways,
                             const struct frame *frame, uint64_t now_ns) {
    struct crossing *crossing = reader->crossing;
    uint64_t hash = flow_hash(reader->loop.mode, frame_packet(frame), frame->length);
    unsigned lane = ways->lanes[flow_of_hash(hash) % ways->n];
    if (lane == crossing->lane || !carries(ways, crossing->lane))
        return lane;
    bool is_through = ring_used_bytes(crossing->outgoing[lane]) == 0 &&
                      !ring_has_unpublished(crossing->outgoing[lane]);
    bool stays = unanswered_stays(&crossing->unanswered, hash, is_through, now_ns);
    return stays ? crossing->lane : lane;
}

/* A frame's own lane is the most likely one: there its flow was answered last. */
static unsigned lane_of(const struct tun_reader *reader, const struct frame *frame,
                        const struct arrival *arrival) {
    const struct crossing *crossing = reader->crossing;
    const struct crossing_ways *ways = &crossing->ways[arrival->slot];
    if (ways->n == 0)
        return asking_lane(crossing, (unsigned)arrival->slot);
    if (ways->by_flow && ways->n > 1)
        return lane_by_flow(reader, ways, frame, arrival->now_ns);
    return carries(ways, crossing->lane) ? crossing->lane : ways->lanes[crossing->lane % ways->n];
}

bool crossing_leads_away(const struct crossing *crossing, unsigned slot) {
    const struct crossing_ways *ways = &crossing->ways[slot];
    if (carries(ways, crossing->lane))
        return false;
    return ways->n > 0 || crossing->lane != asking_lane(crossing, slot);
}

/* -- to another lane --------------------------------------------------------------------------- */

/* false: there is no room. */
static bool put(struct ring *ring, const struct frame *frame, uint64_t n_packets,
                const struct arrival *arrival) {
    size_t length = VNET_LENGTH + frame->length;
    struct ring_record *record = ring_reserve(ring, sizeof *record + length + RING_RECORD_ALIGN);
    if (record == NULL)
        return false;
    memcpy((uint8_t *)record + sizeof *record, frame->vnet, length);
    *record = (struct ring_record){
        .offset = sizeof *record,
        .length = (uint32_t)length,
        .n_packets = (uint32_t)n_packets,
        .n_bytes = (uint32_t)frame->length,
        .slot = (unsigned)arrival->slot,
        .enqueued_ns = arrival->now_ns,
    };
    ring_commit(ring, record);
    return true;
}

bool crossing_takes(struct tun_reader *reader, const struct frame *frame,
                    const struct arrival *arrival) {
    struct crossing *crossing = reader->crossing;
    unsigned lane = lane_of(reader, frame, arrival);
    if (lane == crossing->lane)
        return false;
    uint64_t n_packets = message_count_packets(reader->loop.mode, frame->vnet, frame->length);
    if (!put(crossing->outgoing[lane], frame, n_packets, arrival)) {
        frame_drop(reader, DROP_tun_reader_lane_full, n_packets, frame->length);
        return true;
    }
    stats_count(reader->loop.stats, n_packets, frame->length);
    stats_add(&reader->loop.stats->counters[COUNTER_crossed], n_packets);
    return true;
}

void crossing_publish(struct tun_reader *reader) {
    struct crossing *crossing = reader->crossing;
    for (unsigned i = 0; i < crossing->n_lanes; i++)
        if (crossing->outgoing[i] != NULL && ring_has_unpublished(crossing->outgoing[i]))
            ring_publish(crossing->outgoing[i], reader->loop.stats);
}

uint64_t crossing_n_packets(const struct crossing *crossing) {
    uint64_t n_packets = 0;
    for (unsigned i = 0; i < crossing->n_lanes; i++)
        n_packets += crossing->outgoing[i] != NULL ? crossing->outgoing[i]->n_packets : 0;
    return n_packets;
}

/* -- from another lane ------------------------------------------------------------------------- */

static void forward(struct tun_reader *reader, struct ring_record *record,
                    const struct ring_view *view, struct arrival *arrival) {
    bool is_sound = view->length > VNET_LENGTH && view->length <= VNET_LENGTH + DEVICE_FRAME_MAX &&
                    view->slot < N_PEER_SLOTS;
    if (!is_sound) {
        frame_drop(reader, DROP_tun_reader_ring_corrupt, 1, 0);
        return;
    }
    struct frame frame = ring_in_copy(reader, record, view);
    if (!message_is_frame(reader->loop.mode, frame_packet(&frame), frame.length)) {
        frame_drop(reader, DROP_tun_reader_not_ip, 1, frame.length);
        return;
    }
    arrival->slot = (int)view->slot;
    frame_forward_to(reader, record, &frame, arrival);
}

enum step crossing_burst(struct tun_reader *reader) {
    struct crossing *crossing = reader->crossing;
    enum step all = STEP_IDLE;
    for (unsigned i = 0; i < crossing->n_lanes; i++) {
        struct ring *ring = crossing->incoming[(crossing->next + i) % crossing->n_lanes];
        /* mostly empty, and looked at for each burst of the device */
        bool has_more = ring != NULL && ring_used_bytes(ring) > 0;
        enum step step = has_more ? ring_in_burst(reader, ring, forward) : STEP_IDLE;
        if (step == STEP_RING_FULL)
            return step;
        if (step == STEP_MORE)
            all = step;
    }
    crossing->next = (crossing->next + 1) % crossing->n_lanes;
    return all;
}

/* -- sleeping ---------------------------------------------------------------------------------- */

/* For all of them: a lane that puts something there from now on writes the eventfd. */
static bool prepare(struct crossing *crossing) {
    bool is_empty = true;
    for (unsigned i = 0; i < crossing->n_lanes; i++)
        if (crossing->incoming[i] != NULL)
            is_empty =
                ring_prepare_poll(crossing->incoming[i], ring_first(crossing->incoming[i])) &&
                is_empty;
    return is_empty;
}

static void cancel(struct crossing *crossing) {
    for (unsigned i = 0; i < crossing->n_lanes; i++)
        if (crossing->incoming[i] != NULL)
            waiter_cancel(&crossing->incoming[i]->shared->consumer);
}

enum step crossing_wait(struct tun_reader *reader, int timeout_ms) {
    struct loop *loop = &reader->loop;
    struct crossing *crossing = reader->crossing;
    enum step step = STEP_MORE;
    if (prepare(crossing))
        step = step_after_wait(wait_fd_or_eventfd(loop->device_fd, crossing->wake_fd, timeout_ms,
                                                  loop->channel_fd, loop->stats));
    cancel(crossing);
    return step;
}

/* -- life -------------------------------------------------------------------------------------- */

struct crossing *crossing_new(const struct lane_crossing *ends, struct stats_block *stats) {
    struct crossing *crossing = calloc(1, sizeof *crossing);
    if (crossing == NULL)
        return NULL;
    crossing->lane = ends->lane;
    crossing->n_lanes = ends->n_lanes;
    crossing->spreads = ends->spreads != 0;
    crossing->wake_fd = ends->wake_fds[ends->lane];
    for (unsigned i = 0; i < ends->n_lanes; i++) {
        if (i == ends->lane)
            continue;
        crossing->incoming[i] = ends->incoming[i];
        crossing->outgoing[i] = ends->outgoing[i];
        crossing->incoming[i]->wake_fd = crossing->wake_fd;
        crossing->outgoing[i]->wake_fd = ends->wake_fds[i];
        ring_leave_begun(crossing->incoming[i], stats);
    }
    return crossing;
}

void crossing_free(struct crossing *crossing) {
    free(crossing);
}
