/* commands: what Python orders a worker to do, between two runs of its loop, and what it asks.
 *
 * Each command says in fastun.h which roles it is for. In another role it does nothing, or returns
 * -EINVAL where it returns anything: Python gives some commands to every worker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "inbound/link_reader.h"
#include "inbound/reach.h"
#include "inbound/tun_writer.h"
#include "outbound/datagram_writer.h"
#include "outbound/frame.h"
#include "outbound/link_writer.h"
#include "outbound/send_in_place.h"
#include "worker/capture_command.h"

/* -- what the loop says ------------------------------------------------------------------------ */

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
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL)
        return;
    stats_count(loop->stats, 1, loop->event.length);
    stats_dropped(loop->stats, DROP_link_reader_gateway_busy, 1);
    /* Would the hello have confirmed the key, the next message does. */
    struct receiving_key *key =
        loop->event.kind == EVENT_CONTROL ? key_table_find(reader->keys, loop->event.index) : NULL;
    if (key != NULL)
        key->is_reported = false;
}

/* -- settings ---------------------------------------------------------------------------------- */

void loop_hold_without_session(struct loop *loop) {
    struct tun_reader *reader = tun_reader_of(loop);
    if (reader != NULL)
        reader->hold.is_wanted = true;
}

void loop_clamp_mss(struct loop *loop, size_t mtu) {
    if (loop->role == ROLE_tun_reader)
        tun_reader_of(loop)->mss_mtu = mtu;
    else if (loop->role == ROLE_link_reader)
        link_reader_of(loop)->mss_mtu = mtu;
}

void loop_coalesce(struct loop *loop, enum device_offload offload) {
    struct tun_writer *writer = tun_writer_of(loop);
    struct link_reader *reader = link_reader_of(loop);
    if (writer != NULL)
        writer->coalesce = offload;
    if (reader != NULL)
        reader->udp_formats[1].super_inbound = offload != DEVICE_OFFLOAD_NONE;
}

/* -- UDP sockets and handshakes ---------------------------------------------------------------- */

static struct loop_socket *sockets_of(struct loop *loop) {
    if (loop->role == ROLE_link_reader)
        return link_reader_of(loop)->sockets;
    if (loop->role == ROLE_tun_reader)
        return tun_reader_of(loop)->sockets;
    return loop->role == ROLE_link_writer ? link_writer_of(loop)->sockets : NULL;
}

int loop_add_socket(struct loop *loop, unsigned index, int fd, int has_offload) {
    struct loop_socket *sockets = sockets_of(loop);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (sockets == NULL || index >= N_SOCKETS)
        return -EINVAL;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    if (loop->role == ROLE_link_reader && sockets[index].fd >= 0)
        loop_unwatch(loop, sockets[index].fd); /* retired; epoll would keep it, as others hold it */
    sockets[index] =
        (struct loop_socket){.fd = fd, .family = address.ss_family, .has_offload = has_offload};
    capture_note_ports(loop);
    if (loop->role == ROLE_link_reader)
        return loop_watch(loop, fd, EPOLLIN, POLL_SOCKET + index);
    return loop->role == ROLE_link_writer ? datagram_writer_adopt(&sockets[index]) : 0;
}

void loop_remove_socket(struct loop *loop, unsigned index) {
    struct loop_socket *sockets = sockets_of(loop);
    if (sockets == NULL || index >= N_SOCKETS || sockets[index].fd < 0)
        return;
    if (loop->role == ROLE_link_reader)
        loop_unwatch(loop, sockets[index].fd);
    sockets[index].fd = -1;
}

int loop_set_gate_keys(struct loop *loop, const uint8_t mac1_key[32],
                       const uint8_t cookie_key[32]) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL)
        return -EINVAL;
    handshake_gate_free(&reader->handshakes.gate);
    return handshake_gate_init(&reader->handshakes.gate, mac1_key, cookie_key);
}

void loop_await_reply(struct loop *loop, unsigned slot, uint32_t index) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader != NULL && slot < N_PEER_SLOTS)
        reader->handshakes.awaited_index[slot] = index;
}

int loop_set_endpoint(struct loop *loop, unsigned slot, const struct udp_address *endpoint,
                      uint32_t only_by) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL || slot >= N_PEER_SLOTS)
        return -EINVAL;
    if (only_by != 0)
        key_table_outdate(reader->keys, slot, only_by);
    link_reader_set_endpoint(reader, slot, endpoint);
    return 0;
}

/* -- links ------------------------------------------------------------------------------------- */

int loop_attach_link(struct loop *loop, unsigned slot, uint32_t link_id, int fd,
                     const struct link_format *format) {
    if (slot >= N_PEER_SLOTS)
        return -EINVAL;
    loop_detach_link(loop, slot);
    switch (loop->role) {
    case ROLE_tun_reader:
        return tun_reader_attach(tun_reader_of(loop), slot, link_id, fd, format);
    case ROLE_link_writer:
        return link_writer_attach(link_writer_of(loop), slot, link_id, fd, format);
    case ROLE_link_reader:
        return link_reader_attach(link_reader_of(loop), slot, link_id, fd, format);
    default:
        return -EINVAL;
    }
}

void loop_detach_link(struct loop *loop, unsigned slot) {
    if (slot >= N_PEER_SLOTS)
        return;
    if (loop->role == ROLE_tun_reader)
        tun_reader_detach(tun_reader_of(loop), slot);
    else if (loop->role == ROLE_link_writer)
        link_writer_detach(link_writer_of(loop), slot);
    else if (loop->role == ROLE_link_reader)
        link_reader_detach(link_reader_of(loop), slot);
}

int loop_send_message(struct loop *loop, unsigned slot, const uint8_t *message, size_t length) {
    struct link_writer *writer = link_writer_of(loop);
    return writer != NULL ? link_writer_send_message(writer, slot, message, length) : -EINVAL;
}

void loop_block_link(struct loop *loop, unsigned slot, int is_blocked) {
    struct link_writer *writer = link_writer_of(loop);
    if (writer == NULL || slot >= N_PEER_SLOTS || writer->links[slot] == NULL)
        return;
    writer->links[slot]->is_blocked = is_blocked;
    send_in_place_allow(writer, writer->links[slot], true);
}

/* The tun-reader's link; NULL: there is none, or it is another role. */
static struct tun_reader_link *outbound_link(struct loop *loop, unsigned slot) {
    struct tun_reader *reader = tun_reader_of(loop);
    return reader != NULL && slot < N_PEER_SLOTS ? reader->links[slot] : NULL;
}

void loop_set_packet_max(struct loop *loop, unsigned slot, size_t packet_max, size_t whole_max) {
    struct tun_reader_link *link = outbound_link(loop, slot);
    if (link == NULL)
        return;
    link->packet_max = packet_max;
    link->whole_max = whole_max;
}

void loop_join_pieces(struct loop *loop, unsigned slot, int joins) {
    struct tun_reader_link *link = outbound_link(loop, slot);
    if (link != NULL)
        link->format.joins_pieces = link->format.is_datagram ? joins : 0;
}

int loop_send_keepalive(struct loop *loop, unsigned slot) {
    struct tun_reader *reader = tun_reader_of(loop);
    return reader != NULL && slot < N_PEER_SLOTS ? frame_send_content(reader, slot, NULL, 0)
                                                 : -EAGAIN;
}

int loop_send_control(struct loop *loop, unsigned slot, const uint8_t *content, size_t length) {
    struct tun_reader *reader = tun_reader_of(loop);
    if (length == 0 || length > EVENT_BYTES_MAX || content[0] != MESSAGE_CONTROL)
        return -EINVAL;
    return reader != NULL && slot < N_PEER_SLOTS ? frame_send_content(reader, slot, content, length)
                                                 : -EAGAIN;
}

/* -- addresses --------------------------------------------------------------------------------- */

/* NULL: the role has none. */
static struct allowedips *allowed_ips_of(struct loop *loop) {
    if (loop->role == ROLE_tun_reader)
        return tun_reader_of(loop)->allowed_ips;
    return loop->role == ROLE_link_reader ? link_reader_of(loop)->allowed_ips : NULL;
}

static bool is_prefix(unsigned slot, size_t address_length, unsigned prefix_length) {
    return slot <= PEER_SLOT_NONE && (address_length == 4 || address_length == 16) &&
           prefix_length <= address_length * 8;
}

int loop_allow_ip(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                  unsigned prefix_length) {
    struct allowedips *allowed_ips = allowed_ips_of(loop);
    if (allowed_ips == NULL || !is_prefix(slot, address_length, prefix_length))
        return -EINVAL;
    return allowedips_insert(allowed_ips, address_length == 4 ? 4 : 6, address, prefix_length,
                             (uint16_t)slot);
}

int loop_forget_ip(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                   unsigned prefix_length) {
    struct allowedips *allowed_ips = allowed_ips_of(loop);
    if (allowed_ips == NULL || !is_prefix(slot, address_length, prefix_length))
        return -EINVAL;
    return allowedips_remove(allowed_ips, address_length == 4 ? 4 : 6, address, prefix_length,
                             (uint16_t)slot);
}

void loop_forget_ips(struct loop *loop, unsigned slot) {
    struct allowedips *allowed_ips = allowed_ips_of(loop);
    if (allowed_ips != NULL)
        allowedips_remove_slot(allowed_ips, (uint16_t)slot);
    if (slot >= N_PEER_SLOTS)
        return;
    if (loop->role == ROLE_link_reader)
        link_reader_forget_peer(link_reader_of(loop), slot);
    else if (loop->role == ROLE_tun_reader)
        tun_reader_forget_peer(tun_reader_of(loop), slot);
}

/* -- terms of peers ---------------------------------------------------------------------------- */

int loop_set_rate_limit(struct loop *loop, unsigned slot, uint64_t rate, uint64_t burst_bytes,
                        int is_cut_off) {
    struct shaping *shaping = NULL;
    if (loop->role == ROLE_tun_reader)
        shaping = &tun_reader_of(loop)->shaping;
    else if (loop->role == ROLE_link_reader)
        shaping = &link_reader_of(loop)->shaping;
    if (shaping == NULL || slot >= N_PEER_SLOTS || rate > RATE_MAX || burst_bytes > UINT32_MAX)
        return -EINVAL;
    return shaping_set(shaping, slot, rate, burst_bytes, is_cut_off);
}

int loop_add_reach(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                   unsigned prefix_length) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL || slot >= N_PEER_SLOTS || loop->mode != MODE_TUN)
        return -EINVAL;
    return reach_add(&reader->reaches[slot], address, address_length, prefix_length);
}

void loop_clear_reach(struct loop *loop, unsigned slot) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader != NULL && slot < N_PEER_SLOTS)
        reach_free(&reader->reaches[slot]);
}
