#define _GNU_SOURCE
#include "lane_memory.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"

void lane_memory_open(struct lane_memory *lane, size_t ring_bytes) {
    *lane = (struct lane_memory){.ring_bytes = ring_bytes, .wake_fd = -1};
    lane->ring = ring_create(ring_bytes, &lane->ring_fd);
    lane->stats = stats_create(&lane->stats_fd);
    lane->peers = peer_table_create(&lane->peers_fd);
    lane->sending = sending_counters_create(&lane->sending_fd);
    CHECK(lane->ring != NULL && lane->stats != NULL && lane->peers != NULL);
    lane->marks_fd = replay_marks_open();
    lane->marks = replay_marks_attach(lane->marks_fd);
    CHECK(lane->sending != NULL && lane->marks != NULL);
}

void lane_memory_add_wake_fd(struct lane_memory *lane) {
    lane->wake_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(lane->wake_fd >= 0);
    lane->ring->wake_fd = lane->wake_fd;
}

void lane_memory_add_switch(struct lane_memory *lane) {
    lane->macs = mac_table_create(&lane->macs_fd);
    lane->hairpin = ring_create(lane->ring_bytes, &lane->hairpin_fd);
    lane->hairpin_wake_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(lane->macs != NULL && lane->hairpin != NULL && lane->hairpin_wake_fd >= 0);
    lane->hairpin->wake_fd = lane->hairpin_wake_fd;
}

void lane_memory_add_lane(struct lane_memory *lane) {
    lane->from_lane = ring_create(RING_SIZE_MIN, &lane->lane_fds[0]);
    lane->to_lane = ring_create(RING_SIZE_MIN, &lane->lane_fds[1]);
    CHECK(lane->from_lane != NULL && lane->to_lane != NULL);
    for (int i = 0; i < 2; i++)
        CHECK((lane->lane_wake_fds[i] = eventfd(0, EFD_NONBLOCK)) >= 0);
}

static void close_lane(struct lane_memory *lane) {
    ring_detach(lane->from_lane);
    ring_detach(lane->to_lane);
    for (int i = 0; i < 2; i++) {
        close(lane->lane_fds[i]);
        close(lane->lane_wake_fds[i]);
    }
}

static void close_switch(struct lane_memory *lane) {
    mac_table_detach(lane->macs);
    ring_detach(lane->hairpin);
    close(lane->macs_fd);
    close(lane->hairpin_fd);
    close(lane->hairpin_wake_fd);
}

void lane_memory_close(struct lane_memory *lane) {
    if (lane->macs != NULL)
        close_switch(lane);
    if (lane->from_lane != NULL)
        close_lane(lane);
    ring_detach(lane->ring);
    stats_detach(lane->stats);
    peer_table_detach(lane->peers);
    replay_marks_detach(lane->marks);
    close(lane->marks_fd);
    sending_counters_detach(lane->sending);
    close(lane->sending_fd);
    close(lane->ring_fd);
    close(lane->stats_fd);
    close(lane->peers_fd);
    if (lane->wake_fd >= 0)
        close(lane->wake_fd);
}

/* -- the ring ---------------------------------------------------------------------------------- */

struct ring_record *lane_try_commit(struct lane_memory *lane, const struct ring_record *record) {
    struct ring_record *made =
        ring_reserve(lane->ring, sizeof *made + record->length + RING_RECORD_ALIGN);
    if (made == NULL)
        return NULL;
    *made = *record;
    made->offset = sizeof *made;
    ring_commit(lane->ring, made);
    return made;
}

struct ring_record *lane_commit(struct lane_memory *lane, struct ring_record record) {
    struct ring_record *made = lane_try_commit(lane, &record);
    CHECK(made != NULL);
    memset(ring_payload(made), 0, made->length);
    return made;
}

void lane_publish(struct lane_memory *lane) {
    ring_publish(lane->ring, &lane->ring_stats);
}

size_t lane_count_records(struct lane_memory *lane) {
    uint64_t cursor = ring_first(lane->ring);
    bool corrupt = false;
    size_t n = 0;
    lane->ring->peer = cursor; /* so that it looks again how far the producer is */
    while (ring_peek(lane->ring, &cursor, &corrupt) != NULL)
        n++;
    CHECK(!corrupt);
    return n;
}

/* -- counters ---------------------------------------------------------------------------------- */

uint64_t lane_dropped_in_all(const struct lane_memory *lane) {
    uint64_t n = 0;
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        n += stats_read_drop(lane->stats, drop);
    return n;
}

void lane_check_dropped(const struct lane_memory *lane, unsigned reason, uint64_t n) {
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        CHECK_EQUAL(stats_read_drop(lane->stats, drop), drop == reason ? n : 0);
}

uint64_t lane_peer_field(const struct lane_memory *lane, unsigned slot, const char *name) {
    unsigned field = 0;
    for (; strcmp(peer_table_field_name(field), name) != 0; field++)
        CHECK(field + 1 < peer_table_n_fields());
    return peer_table_read(lane->peers, slot, field);
}
