#define _GNU_SOURCE
#include "outbound/parking.h"

#include <stdlib.h>
#include <string.h>

#include "outbound/answer.h"
#include "outbound/captured_out.h"
#include "outbound/crossing.h"
#include "shared/clock.h"

enum {
    /* A peer that cannot be reached is not asked for more often than WireGuard would try. */
    REPORT_INTERVAL_MS = 1000,
};

static void drop_without_session(struct tun_reader *reader, unsigned slot,
                                 const struct frame *frame);

/* -- a frame comes ----------------------------------------------------------------------------- */

void parking_add(struct tun_reader *reader, const struct frame *frame,
                 const struct arrival *arrival) {
    unsigned slot = (unsigned)arrival->slot;
    struct queue_entry entry = {.length = (uint32_t)(VNET_LENGTH + frame->length),
                                .enqueued_ns = arrival->now_ns};
    const struct peer_inbound *peer = &reader->loop.peers->by_link_reader[slot];
    bool is_on_udp = atomic_load_explicit(&peer->endpoint_version, memory_order_relaxed) != 0;
    bool was_held = reader->hold.since_ns != 0; /* for as long as it is worth */
    parking_want_session(reader, slot, arrival->now_ns);
    if (was_held || !is_on_udp ||
        !parking_append(reader->parking, slot, answer_origin(reader, frame), &entry, frame->vnet))
        drop_without_session(reader, slot, frame);
}

void parking_want_session(struct tun_reader *reader, unsigned slot, uint64_t now_ns) {
    uint64_t *reported_ns = &reader->wanted.reported_ns[slot];
    if (*reported_ns != 0 && now_ns < *reported_ns + REPORT_INTERVAL_MS * (uint64_t)NS_PER_MS)
        return;
    *reported_ns = now_ns;
    reader->wanted.slot = (int)slot;
}

static void drop_without_session(struct tun_reader *reader, unsigned slot,
                                 const struct frame *frame) {
    uint64_t n_packets = message_count_packets(reader->loop.mode, frame->vnet, frame->length);
    frame_drop(reader, DROP_tun_reader_no_session, n_packets, frame->length);
    stats_add(&reader->loop.peers->by_tun_reader[slot].no_session_packets, n_packets);
    if (!reader->hold.is_wanted)
        answer_sender(reader, ANSWER_NO_SESSION, slot, frame, 0);
}

/* -- a frame goes on --------------------------------------------------------------------------- */

static void drop_first(struct tun_reader *reader, unsigned i) {
    struct queue_entry entry;
    const uint8_t *bytes;
    parking_first(reader->parking, i, &entry, &bytes);
    struct frame frame = {(uint8_t *)(uintptr_t)bytes, entry.length - VNET_LENGTH, 0};
    captured_waited(reader, reader->parking->peers[i].slot, &frame);
    drop_without_session(reader, reader->parking->peers[i].slot, &frame);
    parking_pop(reader->parking, i);
}

/* By its address again, which another peer may have now; a copy of a flooded frame has none. */
static void forward_again(struct tun_reader *reader, struct ring_record *record, unsigned slot,
                          size_t length, struct arrival *arrival) {
    struct frame frame = {frame_target(reader, record), length - VNET_LENGTH, 0};
    arrival->slot = (int)slot;
    if (reader->flooding == NULL)
        frame_forward(reader, record, length, arrival);
    else
        frame_forward_to(reader, record, &frame, arrival);
}

bool parking_release(struct tun_reader *reader) {
    struct parking *parking = reader->parking;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    struct queue_entry entry;
    const uint8_t *bytes;
    for (unsigned i = 0; i < parking->n;) {
        const struct tun_reader_link *link = reader->links[parking->peers[i].slot];
        parking_first(parking, i, &entry, &bytes);
        bool has_crossed = reader->crossing != NULL &&
                           crossing_leads_away(reader->crossing, parking->peers[i].slot);
        if (has_crossed || frame_link_is_open(reader, link, arrival.boottime_ns)) {
            struct ring_record *record = tun_reader_reserve(reader);
            if (record == NULL)
                return false;
            parking_first(parking, i, &entry, &bytes); /* a flood that went on may have moved it */
            memcpy(frame_target(reader, record), bytes, entry.length);
            forward_again(reader, record, parking->peers[i].slot, entry.length, &arrival);
            parking_pop(parking, i);
        } else if (arrival.now_ns > entry.enqueued_ns + PARKED_MS_MAX * (uint64_t)NS_PER_MS) {
            drop_first(reader, i);
        } else {
            i++;
        }
    }
    return true;
}

void parking_forget(struct tun_reader *reader, unsigned slot) {
    for (int i; (i = parking_find(reader->parking, slot)) >= 0;)
        drop_first(reader, (unsigned)i);
}

/* -- the frames themselves --------------------------------------------------------------------- */

struct parking *parking_new(void) {
    struct parking *parking = calloc(1, sizeof *parking);
    if (parking != NULL)
        parking->pool.max = PARKING_POOL_BYTES;
    return parking;
}

void parking_free(struct parking *parking) {
    for (unsigned i = 0; parking != NULL && i < parking->n; i++)
        link_queue_free(&parking->peers[i].queue);
    free(parking);
}

int parking_find(const struct parking *parking, unsigned slot) {
    for (unsigned i = 0; i < parking->n; i++)
        if (parking->peers[i].slot == slot)
            return (int)i;
    return -1;
}

static bool has_place(const struct parking *parking, int origin) {
    unsigned n_of_origin = 0;
    for (unsigned i = 0; i < parking->n; i++)
        n_of_origin += parking->peers[i].origin == origin;
    return parking->n < PARKED_PEERS_MAX &&
           n_of_origin < (origin < 0 ? PARKED_FOR_US_MAX : PARKED_FOR_A_PEER_MAX);
}

static struct parked_peer *add_peer(struct parking *parking, unsigned slot, int origin) {
    struct parked_peer *peer = &parking->peers[parking->n];
    if (!has_place(parking, origin) || link_queue_init(&peer->queue, &parking->pool) < 0)
        return NULL;
    peer->slot = slot;
    peer->origin = origin;
    parking->n++;
    return peer;
}

bool parking_append(struct parking *parking, unsigned slot, int origin,
                    const struct queue_entry *entry, const uint8_t *bytes) {
    int found = parking_find(parking, slot);
    struct parked_peer *peer =
        found >= 0 ? &parking->peers[found] : add_peer(parking, slot, origin);
    return peer != NULL && link_queue_append(&peer->queue, entry, bytes);
}

void parking_first(struct parking *parking, unsigned i, struct queue_entry *entry,
                   const uint8_t **bytes) {
    *bytes = link_queue_first(&parking->peers[i].queue, entry);
}

void parking_pop(struct parking *parking, unsigned i) {
    struct queue_entry entry;
    struct link_queue *queue = &parking->peers[i].queue;
    link_queue_pop(queue, &entry);
    if (!link_queue_is_empty(queue))
        return;
    link_queue_free(queue);
    parking->peers[i] = parking->peers[--parking->n];
}
