/* link-reader: the first stage of the inbound direction.
 *
 *   1. wait until a stream or a UDP socket can be read; read as much as there is, up to the
 *      buffer's size; one read a source and round
 *   2. cut it into messages: by their length prefix on a stream (stream_reader.c), a datagram each
 *      on UDP (datagram_reader.c)
 *   3. bring each message's content into the ring: opened, on the sealed wire, else copied; make a
 *      frame of it where it lies and check everything, for it comes from the network (message_in.c)
 *   4. publish what one read gave, read again; a full ring stops the reading, and so the peers
 *
 * It alone reads the sockets, alone holds the receiving keys and alone produces into the inbound
 * ring. Handshake messages go up to the gateway (handshake_in.c).
 */
#define _GNU_SOURCE
#include "inbound/link_reader.h"

#include <errno.h>
#include <stdlib.h>

#include "host/device.h"
#include "inbound/datagram_batch.h"
#include "inbound/datagram_reader.h"
#include "inbound/message_in.h"
#include "inbound/pieces_in.h"
#include "inbound/reach.h"
#include "inbound/shaped_in.h"
#include "inbound/stream_reader.h"
#include "inbound/switch_in.h"

static enum step next_step(struct link_reader *reader);
static enum step look(struct link_reader *reader);
static enum step read_source(struct link_reader *reader, uint32_t what);
static enum step drain(struct link_reader *reader, int source, enum step step);

/* -- the loop ---------------------------------------------------------------------------------- */

enum loop_end link_reader_loop(struct link_reader *reader) {
    enum step step = STEP_MORE;
    allowedips_settle(reader->allowed_ips); /* commands have changed them between two runs */
    while (step == STEP_MORE && !waiter_is_rung(reader->loop.self))
        step = next_step(reader);
    return loop_end_of(step);
}

static enum step drain_rest(struct link_reader *reader, int source) {
    return source == SOURCE_DATAGRAMS ? datagrams_drain(reader)
                                      : stream_drain(reader, (unsigned)source);
}

/* Reads each source that can be read once, whatever they have to report in between: else the one
 * that always has something would keep all others waiting, since epoll names it first again. */
static enum step next_step(struct link_reader *reader) {
    int rest = reader->undrained_source;
    if (rest != SOURCE_NONE)
        return drain(reader, rest, drain_rest(reader, rest));
    if (reader->shaping.n_holding > 0)
        shaped_in_release(reader);
    enum step step = reader->next_ready >= reader->n_ready ? look(reader) : STEP_MORE;
    while (reader->next_ready < reader->n_ready && step == STEP_MORE) {
        uint32_t what = reader->ready[reader->next_ready++].data.u32;
        if (what != POLL_CHANNEL)
            step = read_source(reader, what);
    }
    return step;
}

/* Looks which sources can be read. */
static enum step look(struct link_reader *reader) {
    enum step step = STEP_MORE;
    reader->next_ready = 0;
    int wait_ms = -1;
    if (reader->shaping.n_holding > 0)
        wait_ms = shaping_wait_ms(&reader->shaping, clock_now_ns());
    reader->n_ready = epoll_pwait(reader->loop.epoll_fd, reader->ready, READY_MAX, wait_ms, NULL);
    stats_call(reader->loop.stats, CALL_epoll_wait);
    if (reader->n_ready < 0)
        pace_refused();
    for (int i = 0; i < reader->n_ready; i++)
        if (reader->ready[i].data.u32 == POLL_CHANNEL)
            step = STEP_DOORBELL;
    return step;
}

static enum step read_source(struct link_reader *reader, uint32_t what) {
    if (what >= POLL_SOCKET)
        return drain(reader, SOURCE_DATAGRAMS, datagrams_read(reader, what - POLL_SOCKET));
    return drain(reader, (int)what, stream_read(reader, what));
}

static enum wait_end wait_for_room(struct link_reader *reader) {
    struct loop *loop = &reader->loop;
    if (reader->switch_in != NULL && reader->switch_in->is_waiting)
        return switch_in_wait(reader);
    return ring_wait_space(loop->ring, message_space_max(), loop->channel_fd, loop->stats);
}

/* Goes on until all that was read of the source has been forwarded, waiting for room in the ring.
 * After an event there may be more: it is drained when the loop runs again. */
static enum step drain(struct link_reader *reader, int source, enum step step) {
    struct loop *loop = &reader->loop;
    reader->undrained_source = source;
    for (; step == STEP_RING_FULL; step = drain_rest(reader, source)) {
        if (wait_for_room(reader) == WAIT_DOORBELL || waiter_is_rung(loop->self))
            return STEP_DOORBELL;
    }
    if (step != STEP_EVENT)
        reader->undrained_source = SOURCE_NONE;
    return step;
}

/* -- life -------------------------------------------------------------------------------------- */

static int prepare(struct link_reader *reader) {
    struct loop *loop = &reader->loop;
    reader->allowed_ips = allowedips_new();
    reader->keys = calloc(1, sizeof *reader->keys);
    reader->datagrams = calloc(1, sizeof *reader->datagrams);
    reader->endpoints = calloc(N_PEER_SLOTS, sizeof *reader->endpoints);
    if (loop->wire == WIRE_WIREGUARD && (reader->pieces = pieces_in_new()) == NULL)
        return -ENOMEM;
    if (loop->macs != NULL && (reader->switch_in = calloc(1, sizeof *reader->switch_in)) == NULL)
        return -ENOMEM;
    if (reader->allowed_ips == NULL || reader->keys == NULL || reader->datagrams == NULL ||
        reader->endpoints == NULL)
        return -ENOMEM;
    reader->udp_formats[0] = (struct link_format){
        .wire = loop->wire,
        .mode = loop->mode,
        .message_max = SEALED_CONTENT_MAX,
        .is_datagram = true,
    };
    reader->udp_formats[1] = reader->udp_formats[0];
    return datagram_batch_init(reader->datagrams);
}

struct loop *link_reader_new(const struct loop *common) {
    struct link_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    reader->loop = *common;
    reader->undrained_source = SOURCE_NONE;
    shaping_init(&reader->shaping);
    for (unsigned i = 0; i < N_SOCKETS; i++)
        reader->sockets[i].fd = -1;
    int error = prepare(reader);
    if (error == 0)
        return &reader->loop;
    link_reader_free(reader);
    errno = -error;
    return NULL;
}

void link_reader_free(struct link_reader *reader) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        link_reader_detach(reader, slot);
        if (reader->keys != NULL)
            key_table_forget_slot(reader->keys, slot);
        reach_free(&reader->reaches[slot]);
    }
    shaping_free(&reader->shaping);
    if (reader->datagrams != NULL)
        datagram_batch_free(reader->datagrams);
    handshake_gate_free(&reader->handshakes.gate);
    free(reader->keys);
    free(reader->datagrams);
    free(reader->endpoints);
    free(reader->switch_in);
    pieces_in_free(reader->pieces);
    if (reader->allowed_ips != NULL)
        allowedips_free(reader->allowed_ips);
    free(reader);
}

int link_reader_attach(struct link_reader *reader, unsigned slot, uint32_t link_id, int fd,
                       const struct link_format *format) {
    struct reader_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->fd = fd;
    link->id = link_id;
    link->format = loop_bounded_format(&reader->loop, format);
    link->rx_buffer = malloc(RX_BUFFER_LENGTH);
    reader->links[slot] = link;
    int error = link->rx_buffer == NULL ? -ENOMEM : loop_watch(&reader->loop, fd, EPOLLIN, slot);
    if (error < 0)
        link_reader_detach(reader, slot);
    return error;
}

void link_reader_detach(struct link_reader *reader, unsigned slot) {
    struct reader_link *link = reader->links[slot];
    if (link == NULL)
        return;
    if (link->fd >= 0)
        loop_unwatch(&reader->loop, link->fd);
    free(link->rx_buffer);
    free(link);
    reader->links[slot] = NULL;
    if (reader->undrained_source == (int)slot)
        reader->undrained_source = SOURCE_NONE;
}

void link_reader_forget_peer(struct link_reader *reader, unsigned slot) {
    uint64_t n_bytes;
    uint64_t n = shaping_empty(&reader->shaping, slot, clock_now_ns(), &n_bytes);
    stats_dropped(reader->loop.stats, DROP_link_reader_rate_limit, n);
    reader->endpoints[slot] = (struct udp_address){0}; /* the gateway clears the table's as well */
    if (reader->pieces != NULL)
        pieces_in_forget(reader, slot);
    if (reader->loop.macs != NULL)
        mac_table_forget(reader->loop.macs, slot);
}

void link_reader_set_endpoint(struct link_reader *reader, unsigned slot,
                              const struct udp_address *endpoint) {
    reader->endpoints[slot] = *endpoint;
    peer_write_endpoint(&reader->loop.peers->by_link_reader[slot], endpoint);
}

uint32_t link_reader_link_id(const struct link_reader *reader, unsigned slot) {
    return reader->links[slot] != NULL ? reader->links[slot]->id : 0;
}
