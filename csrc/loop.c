#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static enum loop_end (*const loops[])(struct loop *) = {
    [ROLE_tun_reader] = tun_reader_loop,
    [ROLE_link_writer] = link_writer_loop,
    [ROLE_link_reader] = link_reader_loop,
    [ROLE_tun_writer] = tun_writer_loop,
};

static bool is_producer(enum stats_role role) {
    return role == ROLE_tun_reader || role == ROLE_link_reader;
}

/* -- life -------------------------------------------------------------------------------------- */

static int watch(int epoll_fd, int fd, uint32_t events, uint32_t what) {
    struct epoll_event event = {.events = events, .data.u32 = what};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct loop *loop) {
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return -errno;
    int error = watch(loop->epoll_fd, loop->channel_fd, EPOLLIN, POLL_CHANNEL);
    if (error == 0 && loop->role == ROLE_link_writer && loop->ring->wake_fd >= 0)
        error = watch(loop->epoll_fd, loop->ring->wake_fd, EPOLLIN, POLL_RING);
    return error;
}

struct loop *loop_new(unsigned role, enum wire wire, enum mode mode, struct ring *ring,
                      struct stats *stats, struct peer_table *peers, int device_fd, int channel_fd,
                      int wake_fd) {
    struct loop *loop = role < N_ROLES ? calloc(1, sizeof *loop) : NULL;
    if (loop == NULL) {
        errno = role < N_ROLES ? ENOMEM : EINVAL;
        return NULL;
    }
    ring->wake_fd = wake_fd;
    loop->role = (enum stats_role)role;
    loop->wire = wire;
    loop->mode = mode;
    loop->ring = ring;
    loop->self = is_producer(loop->role) ? &ring->shared->producer : &ring->shared->consumer;
    loop->stats = &stats->blocks[role];
    loop->peers = peers;
    loop->device_fd = device_fd;
    loop->channel_fd = channel_fd;
    loop->unparsed_slot = -1;
    loop->allowed_ips = allowedips_new();
    int error = loop->allowed_ips == NULL ? -ENOMEM : seal_init();
    if (error == 0)
        error = open_epoll(loop);
    if (error < 0) {
        loop_free(loop);
        errno = -error;
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        loop_detach_link(loop, slot);
    if (loop->allowed_ips != NULL)
        allowedips_free(loop->allowed_ips);
    if (loop->epoll_fd > 0)
        close(loop->epoll_fd);
    free(loop);
}

/* -- running ----------------------------------------------------------------------------------- */

enum loop_end loop_run(struct loop *loop) {
    return loops[loop->role](loop);
}

enum loop_end loop_report(struct loop *loop, unsigned slot, enum event_kind kind, int error) {
    struct loop_link *link = loop->links[slot];
    loop->event.kind = kind;
    loop->event.slot = slot;
    loop->event.link_id = link->id;
    loop->event.error = error;
    if (kind == EVENT_LINK_CLOSED || kind == EVENT_LINK_FAULT || kind == EVENT_LINK_ERROR) {
        link->is_over = true;
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL);
    }
    return LOOP_EVENT;
}

const struct loop_event *loop_event(struct loop *loop) {
    return &loop->event;
}

int loop_error(struct loop *loop) {
    return loop->error;
}

void loop_take_bell(struct loop *loop) {
    waiter_take_bell(loop->self);
}

/* -- links ------------------------------------------------------------------------------------- */

static int prepare_link(struct loop *loop, struct loop_link *link, unsigned slot) {
    switch (loop->role) {
    case ROLE_link_writer:
        /* Edge-triggered: each time a full socket has room again is told once. */
        if (link_queue_init(&link->queue) < 0)
            return -ENOMEM;
        return watch(loop->epoll_fd, link->fd, EPOLLOUT | EPOLLET, slot);
    case ROLE_link_reader:
        link->staging = malloc(STAGING_LENGTH);
        if (link->staging == NULL)
            return -ENOMEM;
        return watch(loop->epoll_fd, link->fd, EPOLLIN, slot);
    default:
        return 0;
    }
}

int loop_attach_link(struct loop *loop, unsigned slot, uint32_t link_id, int fd,
                     const struct link_format *format) {
    if (slot >= N_PEER_SLOTS)
        return -EINVAL;
    loop_detach_link(loop, slot);
    struct loop_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->fd = fd;
    link->id = link_id;
    link->format = *format;
    size_t longest = loop->wire == WIRE_WIREGUARD ? SEALED_CONTENT_MAX : MESSAGE_MAX;
    if (link->format.message_max > longest)
        link->format.message_max = longest;
    loop->links[slot] = link;
    loop->n_links++;
    int error = prepare_link(loop, link, slot);
    if (error < 0)
        loop_detach_link(loop, slot);
    return error;
}

static void forget_sending(struct loop_link *link) {
    if (link->sending != NULL)
        seal_key_free(link->sending->key);
    free(link->sending);
    link->sending = NULL;
}

static void forget_receiving(struct receiving_key **receiving) {
    if (*receiving != NULL)
        seal_key_free((*receiving)->key);
    free(*receiving);
    *receiving = NULL;
}

void loop_detach_link(struct loop *loop, unsigned slot) {
    struct loop_link *link = slot < N_PEER_SLOTS ? loop->links[slot] : NULL;
    if (link == NULL)
        return;
    if (loop->role == ROLE_link_writer)
        link_writer_forget(loop, slot);
    /* The caller may have closed the descriptor, or not yet; a second removal does no harm. */
    if (link->fd >= 0)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL);
    forget_sending(link);
    for (unsigned i = 0; i < N_RECEIVING_KEYS; i++)
        forget_receiving(&link->receiving[i]);
    link_queue_free(&link->queue);
    free(link->staging);
    free(link);
    loop->links[slot] = NULL;
    loop->n_links--;
    if (loop->unparsed_slot == (int)slot)
        loop->unparsed_slot = -1;
}

/* -- addresses and keys ------------------------------------------------------------------------ */

int loop_allow_ip(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                  unsigned prefix_length) {
    if (slot >= N_PEER_SLOTS || (address_length != 4 && address_length != 16) ||
        prefix_length > address_length * 8)
        return -EINVAL;
    return allowedips_insert(loop->allowed_ips, address_length == 4 ? 4 : 6, address, prefix_length,
                             (uint16_t)slot);
}

void loop_forget_ips(struct loop *loop, unsigned slot) {
    allowedips_remove_slot(loop->allowed_ips, (uint16_t)slot);
}

static struct loop_link *link_of(struct loop *loop, unsigned slot) {
    return slot < N_PEER_SLOTS ? loop->links[slot] : NULL;
}

int loop_set_sending_key(struct loop *loop, unsigned slot, enum aead aead, const uint8_t key[32],
                         uint32_t receiver_index, uint64_t counter) {
    struct loop_link *link = link_of(loop, slot);
    if (link == NULL)
        return -ENOENT;
    struct sending_key *sending = calloc(1, sizeof *sending);
    struct seal_key *seal_key = seal_key_new(aead, key);
    if (sending == NULL || seal_key == NULL) {
        free(sending);
        if (seal_key != NULL)
            seal_key_free(seal_key);
        return -ENOMEM;
    }
    *sending = (struct sending_key){seal_key, aead, receiver_index, counter};
    forget_sending(link);
    link->sending = sending;
    return 0;
}

void loop_forget_sending_key(struct loop *loop, unsigned slot) {
    struct loop_link *link = link_of(loop, slot);
    if (link != NULL)
        forget_sending(link);
}

/* The keys stand in the order of their age, without gaps; what is behind `place` moves up. */
static void forget_receiving_at(struct loop_link *link, unsigned place) {
    forget_receiving(&link->receiving[place]);
    memmove(&link->receiving[place], &link->receiving[place + 1],
            (N_RECEIVING_KEYS - 1 - place) * sizeof link->receiving[0]);
    link->receiving[N_RECEIVING_KEYS - 1] = NULL;
}

/* The first empty place; where there is none, the oldest key makes way. */
static struct receiving_key **receiving_place(struct loop_link *link) {
    unsigned place = 0;
    if (link->receiving[N_RECEIVING_KEYS - 1] != NULL)
        forget_receiving_at(link, 0);
    while (link->receiving[place] != NULL)
        place++;
    return &link->receiving[place];
}

int loop_add_receiving_key(struct loop *loop, unsigned slot, enum aead aead, const uint8_t key[32],
                           uint32_t index, uint64_t counter) {
    struct loop_link *link = link_of(loop, slot);
    if (link == NULL)
        return -ENOENT;
    struct receiving_key *receiving = calloc(1, sizeof *receiving);
    struct seal_key *seal_key = seal_key_new(aead, key);
    if (receiving == NULL || seal_key == NULL) {
        free(receiving);
        if (seal_key != NULL)
            seal_key_free(seal_key);
        return -ENOMEM;
    }
    *receiving = (struct receiving_key){
        .key = seal_key, .aead = aead, .index = index, .is_confirmed = counter > 0};
    for (uint64_t used = 0; used < counter; used++)
        replay_accept(&receiving->replay, used);
    *receiving_place(link) = receiving;
    return 0;
}

void loop_forget_receiving_key(struct loop *loop, unsigned slot, uint32_t index) {
    struct loop_link *link = link_of(loop, slot);
    for (unsigned i = 0; link != NULL && i < N_RECEIVING_KEYS; i++)
        if (link->receiving[i] != NULL && link->receiving[i]->index == index) {
            forget_receiving_at(link, i);
            return;
        }
}

/* -- clocks ------------------------------------------------------------------------------------ */

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_boottime_ns(void) {
    return clock_ns(CLOCK_BOOTTIME);
}
