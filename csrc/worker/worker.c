/* worker: makes the loop of its role, runs it and frees it. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "inbound/link_reader.h"
#include "inbound/tun_writer.h"
#include "loop/reconcile.h"
#include "outbound/crossing.h"
#include "outbound/link_writer.h"
#include "outbound/send_in_place.h"
#include "outbound/tun_reader.h"
#include "session/aead.h"

static bool is_producer(enum stats_role role) {
    return role == ROLE_tun_reader || role == ROLE_link_reader;
}

static struct loop *new_of_role(const struct loop *common) {
    switch (common->role) {
    case ROLE_tun_reader:
        return tun_reader_new(common);
    case ROLE_link_writer:
        return link_writer_new(common);
    case ROLE_link_reader:
        return link_reader_new(common);
    case ROLE_tun_writer:
        return tun_writer_new(common);
    default:
        errno = EINVAL;
        return NULL;
    }
}

static bool is_switching(const struct loop_parts *parts) {
    return parts->macs != NULL && is_producer(parts->role);
}

static struct stats_block *neighbour_stats(const struct loop_parts *parts) {
    return is_producer(parts->role) ? &parts->stats->parts[parts->role + 1].block : NULL;
}

static int open_epoll(struct loop *loop) {
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->epoll_fd < 0 ? -errno : loop_watch(loop, loop->channel_fd, EPOLLIN, POLL_CHANNEL);
}

/* What a tun-reader has beside what all have. Returns 0 or -ENOMEM. */
static int join_tun_reader(struct tun_reader *reader, const struct loop_parts *parts,
                           uint64_t *n_crossed) {
    reader->sending = parts->sending;
    if (parts->crossing == NULL)
        return 0;
    reader->crossing = crossing_new(parts->crossing, reader->loop.stats);
    if (reader->crossing == NULL)
        return -ENOMEM;
    *n_crossed = crossing_n_packets(reader->crossing);
    return 0;
}

struct loop *loop_new(const struct loop_parts *parts) {
    if (parts->role >= N_ROLES) {
        errno = EINVAL;
        return NULL;
    }
    parts->ring->wake_fd = parts->wake_fd;
    parts->ring->spin_ns = parts->spin_ns;
    if (is_switching(parts)) {
        parts->hairpin->wake_fd = parts->hairpin_wake_fd;
        mac_table_recover(parts->macs,
                          parts->role == ROLE_link_reader ? MAC_INDEX_PEERS : MAC_INDEX_LOCAL);
        if (parts->role == ROLE_tun_reader)
            ring_leave_begun(parts->hairpin, &parts->stats->parts[parts->role].block);
    }
    struct loop common = {
        .role = (enum stats_role)parts->role,
        .wire = parts->wire,
        .mode = parts->mode,
        .ring = parts->ring,
        .self = is_producer(parts->role) ? &parts->ring->shared->producer
                                         : &parts->ring->shared->consumer,
        .stats = &parts->stats->parts[parts->role].block,
        .neighbour_stats = neighbour_stats(parts),
        .hands_over = parts->hands_over != 0,
        .peers = parts->peers,
        .macs = is_switching(parts) ? parts->macs : NULL,
        .hairpin = is_switching(parts) ? parts->hairpin : NULL,
        .device_fd = parts->device_fd,
        .channel_fd = parts->channel_fd,
        .epoll_fd = -1,
    };
    int error = aead_init();
    if (error == 0)
        error = open_epoll(&common);
    struct loop *loop = error == 0 ? new_of_role(&common) : NULL;
    if (loop == NULL) {
        error = error == 0 ? -errno : error;
        if (common.epoll_fd >= 0)
            close(common.epoll_fd);
        errno = -error;
        return NULL;
    }
    uint64_t n_crossed = 0;
    if (parts->role == ROLE_tun_reader &&
        join_tun_reader(tun_reader_of(loop), parts, &n_crossed) < 0) {
        loop_free(loop);
        errno = ENOMEM;
        return NULL;
    }
    if (parts->role == ROLE_link_reader) {
        link_reader_of(loop)->keys->marks = parts->marks;
        link_reader_of(loop)->device_index = parts->device_index;
    }
    if (!is_producer(parts->role))
        ring_regain(loop->ring, loop->channel_fd);
    if (parts->role == ROLE_link_writer)
        send_in_place_reset(loop);
    reconcile(loop, n_crossed);
    return loop;
}

enum loop_end loop_run(struct loop *loop) {
    switch (loop->role) {
    case ROLE_tun_reader:
        return tun_reader_loop(tun_reader_of(loop));
    case ROLE_link_writer:
        return link_writer_loop(link_writer_of(loop));
    case ROLE_link_reader:
        return link_reader_loop(link_reader_of(loop));
    default:
        return tun_writer_loop(tun_writer_of(loop));
    }
}

void loop_free(struct loop *loop) {
    capture_free(loop->capture);
    int epoll_fd = loop->epoll_fd; /* links are taken from it as they are freed */
    switch (loop->role) {
    case ROLE_tun_reader:
        tun_reader_free(tun_reader_of(loop));
        break;
    case ROLE_link_writer:
        link_writer_free(link_writer_of(loop));
        break;
    case ROLE_link_reader:
        link_reader_free(link_reader_of(loop));
        break;
    default:
        tun_writer_free(tun_writer_of(loop));
    }
    close(epoll_fd);
}
