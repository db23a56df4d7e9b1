#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static enum loop_end (*const loops[])(struct loop *) = {
    [ROLE_tun_reader] = tun_reader_loop,
    [ROLE_link_writer] = link_writer_loop,
    [ROLE_link_reader] = link_reader_loop,
    [ROLE_tun_writer] = tun_writer_loop,
};

static struct waiter *own_waiter(enum stats_role role, struct ring *ring) {
    switch (role) {
    case ROLE_tun_reader:
    case ROLE_link_reader:
        return &ring->shared->producer;
    default:
        return &ring->shared->consumer;
    }
}

struct loop *loop_new(unsigned role, struct ring *ring, struct stats *stats, int device_fd,
                      int channel_fd) {
    if (role >= N_ROLES) {
        errno = EINVAL;
        return NULL;
    }
    struct loop *loop = calloc(1, sizeof *loop);
    uint8_t *staging = role == ROLE_link_reader ? malloc(STAGING_LENGTH) : NULL;
    if (loop == NULL || (role == ROLE_link_reader && staging == NULL)) {
        free(loop);
        free(staging);
        errno = ENOMEM;
        return NULL;
    }
    *loop = (struct loop){
        .role = (enum stats_role)role,
        .ring = ring,
        .self = own_waiter((enum stats_role)role, ring),
        .stats = &stats->blocks[role],
        .device_fd = device_fd,
        .channel_fd = channel_fd,
        .link_fd = -1,
        .staging = staging,
    };
    return loop;
}

void loop_free(struct loop *loop) {
    free(loop->staging);
    free(loop);
}

enum loop_end loop_run(struct loop *loop) {
    return loops[loop->role](loop);
}

int loop_error(struct loop *loop) {
    return loop->error;
}

void loop_take_bell(struct loop *loop) {
    waiter_take_bell(loop->self);
}

void loop_set_link(struct loop *loop, int fd, enum wire wire, enum mode mode, int super_outbound,
                   int super_inbound, size_t message_max) {
    loop->link_fd = fd;
    loop->format = (struct link_format){
        .wire = wire,
        .mode = mode,
        .super_outbound = super_outbound != 0,
        .super_inbound = super_inbound != 0,
        .message_max = message_max < MESSAGE_MAX ? message_max : MESSAGE_MAX,
    };
    /* What was under way on the old stream means nothing on the new one. */
    loop->n_sent = 0;
    loop->staging_start = loop->staging_end = 0;
}

uint64_t clock_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
