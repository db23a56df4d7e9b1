#define _GNU_SOURCE
#include "loop/reconcile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "outbound/datagram_writer.h"

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

static int prepare_link_reader(struct loop *loop) {
    loop->device_index = device_index(loop->device_fd);
    loop->keys = calloc(1, sizeof *loop->keys);
    loop->datagrams = calloc(1, sizeof *loop->datagrams);
    loop->endpoints = calloc(N_PEER_SLOTS, sizeof *loop->endpoints);
    if (loop->keys == NULL || loop->datagrams == NULL || loop->endpoints == NULL)
        return -ENOMEM;
    loop->datagram_format = (struct link_format){
        .wire = loop->wire,
        .mode = loop->mode,
        .message_max = SEALED_CONTENT_MAX,
        .is_datagram = true,
    };
    return datagrams_init(loop->datagrams);
}

static int prepare_role(struct loop *loop) {
    switch (loop->role) {
    case ROLE_link_reader:
        return prepare_link_reader(loop);
    case ROLE_tun_reader:
        loop->splitting = splitting_new();
        loop->staging = staging_new();
        loop->own_packets = own_packets_new();
        if (loop->splitting == NULL || loop->staging == NULL || loop->own_packets == NULL)
            return -ENOMEM;
        return answer_limit_init(&loop->answers);
    default:
        return 0;
    }
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
    loop->unpassed_source = SOURCE_NONE;
    loop->wanted_slot = -1;
    loop->queue_pool.max = LINK_POOL_BYTES;
    for (unsigned i = 0; i < N_SOCKETS; i++)
        loop->sockets[i].fd = -1;
    loop->allowed_ips = allowedips_new();
    int error = loop->allowed_ips == NULL ? -ENOMEM : aead_init();
    if (error == 0)
        error = prepare_role(loop);
    if (error == 0)
        error = open_epoll(loop);
    if (error == 0)
        reconcile(loop);
    if (error < 0) {
        loop_free(loop);
        errno = -error;
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        loop_detach_link(loop, slot);
        loop_forget_receiving_keys(loop, slot);
    }
    if (loop->datagrams != NULL)
        datagrams_free(loop->datagrams);
    handshake_gate_free(&loop->gate);
    splitting_free(loop->splitting);
    staging_free(loop->staging);
    own_packets_free(loop->own_packets);
    free(loop->keys);
    free(loop->datagrams);
    free(loop->endpoints);
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
    loop->event.link_id = link == NULL ? 0 : link->id; /* a session on UDP needs no link here */
    loop->event.error = error;
    if (kind == EVENT_LINK_CLOSED || kind == EVENT_LINK_FAULT || kind == EVENT_LINK_ERROR) {
        link->is_over = true;
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL);
    }
    return LOOP_EVENT;
}

void loop_note_news(struct loop *loop, struct refusals *refusals) {
    /* Off and on again before the gateway was informed: nothing to report. */
    loop->n_news += refusals->is_news ? -1u : 1u;
    refusals->is_news = !refusals->is_news;
}

enum loop_end loop_report_news(struct loop *loop, unsigned slot, struct refusals *refusals,
                               enum offload_kind kind) {
    loop_note_news(loop, refusals);
    loop->event.index = kind;
    return loop_report(loop, slot, EVENT_OFFLOAD,
                       refusals->off_until_ns != 0 ? refusals->error : 0);
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

void loop_drop_event(struct loop *loop) {
    stats_count(loop->stats, 1, loop->event.length);
    stats_dropped(loop->stats, DROP_link_reader_gateway_busy, 1);
    /* Would the hello have confirmed the key, the next message does. */
    struct receiving_key *key =
        loop->event.kind == EVENT_CONTROL ? key_table_find(loop->keys, loop->event.index) : NULL;
    if (key != NULL)
        key->is_confirmed = false;
}

/* -- sockets ----------------------------------------------------------------------------------- */

int loop_add_socket(struct loop *loop, unsigned index, int fd, int has_offload) {
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;
    if (index >= N_SOCKETS)
        return -EINVAL;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    loop->sockets[index] = (struct loop_socket){
        .fd = fd, .family = ((struct sockaddr *)&address)->sa_family, .has_offload = has_offload};
    if (loop->role == ROLE_link_reader)
        return watch(loop->epoll_fd, fd, EPOLLIN, POLL_SOCKET + index);
    return datagram_writer_adopt(&loop->sockets[index]);
}

int loop_set_gate_keys(struct loop *loop, const uint8_t mac1_key[32],
                       const uint8_t cookie_key[32]) {
    handshake_gate_free(&loop->gate);
    return handshake_gate_init(&loop->gate, mac1_key, cookie_key);
}

void loop_await_reply(struct loop *loop, unsigned slot, uint32_t index) {
    if (slot < N_PEER_SLOTS)
        loop->awaited_index[slot] = index;
}

int loop_set_endpoint(struct loop *loop, unsigned slot, const struct udp_address *endpoint) {
    if (slot >= N_PEER_SLOTS || loop->endpoints == NULL)
        return -EINVAL;
    loop->endpoints[slot] = *endpoint;
    peer_write_endpoint(&loop->peers->slots[slot], endpoint);
    return 0;
}

/* -- links ------------------------------------------------------------------------------------- */

static int prepare_link(struct loop *loop, struct loop_link *link, unsigned slot) {
    switch (loop->role) {
    case ROLE_link_writer:
        /* What a predecessor or another link told of this slot is of no queue any more. */
        peer_set(&loop->peers->slots[slot].waiting_since_ns, 0);
        if (link->format.is_datagram)
            return 0;
        /* Edge-triggered: each time a full socket has room again is told once. */
        if (link_queue_init(&link->queue, &loop->queue_pool) < 0)
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
    loop->last_slot = slot;
    int error = prepare_link(loop, link, slot);
    if (error < 0)
        loop_detach_link(loop, slot);
    return error;
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
    sending_key_free(link->sending);
    link_queue_free(&link->queue);
    free(link->staging);
    free(link);
    loop->links[slot] = NULL;
    loop->n_links--;
    own_packets_changed(loop->own_packets);
    if (loop->unpassed_source == (int)slot)
        loop->unpassed_source = SOURCE_NONE;
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
                         uint32_t receiver_index, uint64_t counter, uint64_t expires_ns) {
    struct loop_link *link = link_of(loop, slot);
    if (link == NULL)
        return -ENOENT;
    struct sending_key *sending = calloc(1, sizeof *sending);
    if (sending == NULL)
        return -ENOMEM;
    /* Another cipher of the same session, or the same key again: the peer has one replay window
     * for both, and the count of blocks sealed under the key goes on. */
    uint64_t n_blocks = 0;
    if (link->sending != NULL && link->sending->receiver_index == receiver_index) {
        counter = counter > link->sending->counter ? counter : link->sending->counter;
        n_blocks = link->sending->n_blocks;
    }
    *sending = (struct sending_key){
        aead_key_new(aead, key), aead, receiver_index, counter, expires_ns, n_blocks,
    };
    if (sending->key == NULL) {
        sending_key_free(sending);
        return -ENOMEM;
    }
    sending_key_free(link->sending);
    link->sending = sending;
    own_packets_changed(loop->own_packets);
    peer_set(&loop->peers->slots[slot].sealed, counter);
    peer_set(&loop->peers->slots[slot].sealed_blocks, n_blocks);
    return 0;
}

void loop_forget_sending_key(struct loop *loop, unsigned slot) {
    struct loop_link *link = link_of(loop, slot);
    if (link == NULL)
        return;
    sending_key_free(link->sending);
    link->sending = NULL;
    own_packets_changed(loop->own_packets);
}

void loop_block_link(struct loop *loop, unsigned slot, int is_blocked) {
    struct loop_link *link = link_of(loop, slot);
    if (link != NULL)
        link->is_blocked = is_blocked;
}

void loop_set_path_mtu(struct loop *loop, unsigned slot, size_t path_mtu, size_t whole) {
    struct loop_link *link = link_of(loop, slot);
    if (link == NULL)
        return;
    link->path_mtu = path_mtu;
    link->whole = whole;
}

int loop_add_receiving_key(struct loop *loop, unsigned slot, enum aead aead, const uint8_t key[32],
                           uint32_t index, uint64_t counter, uint64_t expires_ns) {
    if (slot >= N_PEER_SLOTS || loop->keys == NULL)
        return -EINVAL;
    struct aead_key *aead_key = aead_key_new(aead, key);
    if (aead_key == NULL)
        return -errno;
    struct receiving_key *receiving = key_table_add(loop->keys, slot, index);
    if (receiving == NULL) {
        aead_key_free(aead_key);
        return -EEXIST;
    }
    aead_key_free(receiving->keys[aead]);
    receiving->keys[aead] = aead_key;
    receiving->expires_ns = expires_ns;
    if (counter > 0)
        receiving->is_confirmed = true;
    receiving_key_use_up(receiving, counter);
    return 0;
}

void loop_forget_receiving_keys(struct loop *loop, unsigned slot) {
    if (slot < N_PEER_SLOTS && loop->keys != NULL)
        key_table_forget_slot(loop->keys, slot);
}

void loop_clamp_mss(struct loop *loop, size_t mtu) {
    loop->mss_mtu = mtu;
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
