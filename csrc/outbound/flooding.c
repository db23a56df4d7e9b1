#define _GNU_SOURCE
#include "outbound/flooding.h"

#include <stdlib.h>
#include <string.h>

#include "loop/switching.h"
#include "outbound/splitting.h"
#include "shared/clock.h"

/* A peer on UDP without a session gets one for a frame to all, if it was heard so lately: those
 * that have left would cost a handshake at each. */
#define LATELY_NS 3600000000000ull

static bool is_target(const struct tun_reader *reader, unsigned slot, uint64_t boottime_ns) {
    const struct tun_reader_link *link = reader->links[slot];
    if (slot == (unsigned)reader->flooding->origin)
        return false;
    if (link != NULL && frame_link_is_open(reader, link, boottime_ns))
        return true;
    const struct peer_inbound *peer = &reader->loop.peers->by_link_reader[slot];
    if (atomic_load_explicit(&peer->endpoint_version, memory_order_relaxed) == 0)
        return false;
    uint64_t heard_ns = atomic_load_explicit(&peer->received_ns, memory_order_relaxed);
    return heard_ns == 0 || boottime_ns < heard_ns + LATELY_NS; /* 0: its endpoint is configured */
}

static unsigned next_target(const struct tun_reader *reader, unsigned slot, uint64_t boottime_ns) {
    while (slot < N_PEER_SLOTS && !is_target(reader, slot, boottime_ns))
        slot++;
    return slot;
}

static unsigned count_targets(const struct tun_reader *reader, uint64_t boottime_ns) {
    unsigned n = 0;
    for (unsigned slot = next_target(reader, 0, boottime_ns); slot < N_PEER_SLOTS;
         slot = next_target(reader, slot + 1, boottime_ns))
        n++;
    return n;
}

/* What of this host's side goes to one peer alone is not copied. A peer's packets were counted by
 * the link-reader, before their copies are known. */
static bool may_go(struct tun_reader *reader, uint64_t n_packets, const struct arrival *arrival) {
    struct flooding *flooding = reader->flooding;
    unsigned n_targets = count_targets(reader, arrival->boottime_ns);
    if (flooding->origin == ORIGIN_DEVICE) {
        if (n_targets == 1)
            return true;
        if (!flood_may_go(&flooding->floods_full_at_ns, arrival->now_ns, n_packets))
            return false;
    }
    return copies_may_go(&flooding->copies_full_at_ns[1 + flooding->origin], arrival->now_ns,
                         n_packets * n_targets);
}

/* A frame of a peer's lies where the link-reader can still change it: what is looked at is the
 * copy. */
void flooding_begin(struct tun_reader *reader, const struct frame *frame, int origin,
                    const struct arrival *arrival) {
    struct flooding *flooding = reader->flooding;
    flooding->origin = origin;
    flooding->next = next_target(reader, 0, arrival->boottime_ns);
    flooding->length = VNET_LENGTH + frame->length;
    memcpy(flooding->frame, frame->vnet, flooding->length);
    uint64_t n_packets = message_count_packets(reader->loop.mode, flooding->frame, frame->length);
    if (flooding->next == N_PEER_SLOTS) {
        if (origin == ORIGIN_DEVICE)
            frame_drop(reader, DROP_tun_reader_no_session, n_packets, frame->length);
        return;
    }
    if (!may_go(reader, n_packets, arrival)) {
        frame_drop(reader, DROP_tun_reader_flood_limit, n_packets, frame->length);
        flooding->next = N_PEER_SLOTS;
    }
}

bool flooding_continue(struct tun_reader *reader) {
    struct flooding *flooding = reader->flooding;
    if (flooding->next == N_PEER_SLOTS)
        return true;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    while (flooding->next < N_PEER_SLOTS) {
        struct ring_record *record = reader->wanted.slot < 0 && splitting_continue(reader)
                                         ? ring_reserve(reader->loop.ring, FRAME_SPACE)
                                         : NULL;
        if (record == NULL)
            return false;
        struct frame frame = {frame_target(reader, record), flooding->length - VNET_LENGTH, 0};
        memcpy(frame.vnet, flooding->frame, flooding->length);
        arrival.slot = (int)flooding->next;
        reader->origin = flooding->origin;
        frame_forward_to(reader, record, &frame, &arrival);
        reader->origin = ORIGIN_DEVICE;
        flooding->next = next_target(reader, flooding->next + 1, arrival.boottime_ns);
    }
    return true;
}

/* -- life -------------------------------------------------------------------------------------- */

struct flooding *flooding_new(void) {
    struct flooding *flooding = calloc(1, sizeof *flooding);
    if (flooding != NULL)
        flooding->next = N_PEER_SLOTS;
    return flooding;
}

void flooding_free(struct flooding *flooding) {
    free(flooding);
}
