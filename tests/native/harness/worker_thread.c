#define _GNU_SOURCE
#include "worker_thread.h"

#include <unistd.h>

#include "check.h"
#include "lanes.h"
#include "sockets.h"

static void attach_lane(struct worker_thread *worker, const struct lane_memory *lane,
                        struct lane_crossing *crossing) {
    unsigned other = 1 - worker->lane;
    worker->from_lane = ring_attach(lane->lane_fds[0], RING_SIZE_MIN);
    worker->to_lane = ring_attach(lane->lane_fds[1], RING_SIZE_MIN);
    CHECK(worker->from_lane != NULL && worker->to_lane != NULL);
    crossing->incoming[other] = worker->from_lane;
    crossing->outgoing[other] = worker->to_lane;
    for (int i = 0; i < 2; i++)
        crossing->wake_fds[i] = lane->lane_wake_fds[i];
    lane->from_lane->wake_fd = lane->lane_wake_fds[worker->lane];
    lane->to_lane->wake_fd = lane->lane_wake_fds[other];
}

void worker_open(struct worker_thread *worker, enum stats_role role, enum wire wire, enum mode mode,
                 const struct lane_memory *lane, int device_fd) {
    worker->role = role;
    worker->ring = ring_attach(lane->ring_fd, lane->ring_bytes);
    CHECK(worker->ring != NULL);
    worker->hairpin = worker->from_lane = worker->to_lane = NULL;
    if (lane->macs != NULL) {
        worker->hairpin = ring_attach(lane->hairpin_fd, lane->ring_bytes);
        CHECK(worker->hairpin != NULL);
    }
    struct lane_crossing crossing = {.lane = worker->lane, .n_lanes = 2};
    bool crosses = lane->from_lane != NULL && role == ROLE_tun_reader;
    if (crosses)
        attach_lane(worker, lane, &crossing);
    pair_open(worker->channel, SOCK_SEQPACKET);
    aead_load_fastest(); /* as the template has, before it forks a worker */
    worker->loop = loop_new(&(struct loop_parts){.role = role,
                                                 .wire = wire,
                                                 .mode = mode,
                                                 .ring = worker->ring,
                                                 .stats = lane->stats,
                                                 .peers = lane->peers,
                                                 .sending = lane->sending,
                                                 .marks = lane->marks,
                                                 .device_fd = device_fd,
                                                 .channel_fd = worker->channel[1],
                                                 .wake_fd = lane->wake_fd,
                                                 .macs = lane->macs,
                                                 .hairpin = worker->hairpin,
                                                 .hairpin_wake_fd = lane->hairpin_wake_fd,
                                                 .crossing = crosses ? &crossing : NULL,
                                                 .hands_over = lane->hands_over});
    CHECK(worker->loop != NULL);
}

static void *work(void *argument) {
    struct worker_thread *worker = argument;
    worker->end = loop_run(worker->loop);
    return NULL;
}

void worker_start(struct worker_thread *worker) {
    CHECK_EQUAL(pthread_create(&worker->thread, NULL, work, worker), 0);
}

enum loop_end worker_join(struct worker_thread *worker) {
    CHECK_EQUAL(pthread_join(worker->thread, NULL), 0);
    return worker->end;
}

enum loop_end worker_run(struct worker_thread *worker) {
    char message;
    CHECK_EQUAL(write(worker->channel[0], "!", 1), 1);
    enum loop_end end = loop_run(worker->loop);
    if (end == LOOP_DOORBELL)
        CHECK_EQUAL(read(worker->channel[1], &message, 1), 1);
    return end;
}

enum loop_end worker_stop(struct worker_thread *worker) {
    char message;
    CHECK_EQUAL(write(worker->channel[0], "!", 1), 1);
    if (worker->role == ROLE_tun_reader || worker->role == ROLE_link_reader)
        ring_doorbell_producer(worker->ring);
    else
        ring_doorbell_consumer(worker->ring);
    enum loop_end end = worker_join(worker);
    loop_take_bell(worker->loop);
    CHECK_EQUAL(read(worker->channel[1], &message, 1), 1);
    return end;
}

void worker_close(struct worker_thread *worker) {
    loop_free(worker->loop);
    ring_detach(worker->ring);
    if (worker->hairpin != NULL)
        ring_detach(worker->hairpin);
    if (worker->from_lane != NULL) {
        ring_detach(worker->from_lane);
        ring_detach(worker->to_lane);
    }
    worker->from_lane = worker->to_lane = NULL;
    pair_close(worker->channel);
}
