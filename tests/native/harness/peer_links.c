#define _GNU_SOURCE
#include "peer_links.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "packet/byteorder.h"
#include "outbound/fair_writer.h"
#include "outbound/link_writer.h"
#include "check.h"
#include "formats.h"
#include "sockets.h"

enum { HANDSHAKE = 0x80, STEP_US = 50, PATIENCE_STEPS = 5 * 1000 * 1000 / STEP_US };

/* -- life -------------------------------------------------------------------------------------- */

void peer_links_open(struct peer_links *links, enum wire wire) {
    *links = (struct peer_links){.wire = wire};
    lane_memory_open(&links->lane, PEER_RING_BYTES);
    lane_memory_add_wake_fd(&links->lane);
    worker_open(&links->worker, ROLE_link_writer, wire, MODE_TUN, &links->lane, -1);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        links->peers[slot].fd[0] = links->peers[slot].fd[1] = -1;
}

void peer_links_close(struct peer_links *links) {
    if (links->is_running)
        peer_links_stop(links);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        if (links->peers[slot].fd[0] >= 0)
            peer_detach(links, slot);
    worker_close(&links->worker);
    lane_memory_close(&links->lane);
}

void peer_links_run(struct peer_links *links) {
    worker_start(&links->worker);
    links->is_running = true;
}

void peer_links_take_turns(struct peer_links *links) {
    struct link_writer *writer = link_writer_of(links->worker.loop);
    uint64_t now_ns = clock_now_ns();
    writer->fair.is_on = true;
    writer->fair.full_ns = now_ns;
    writer->fair.uplink = (struct uplink){
        .looked_ns = now_ns, .moved_ns = now_ns, .rate = 1000000, .wait_ns = UPLINK_WAIT_FIRST_NS};
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        if (writer->links[slot] != NULL)
            fair_wake(writer, writer->links[slot]);
}

void peer_links_stop(struct peer_links *links) {
    CHECK_EQUAL(worker_stop(&links->worker), LOOP_DOORBELL);
    links->is_running = false;
}

void peer_links_await_empty_ring(struct peer_links *links) {
    for (int i = 0; ring_used_bytes(links->lane.ring) > 0; i++) {
        CHECK(i < PATIENCE_STEPS);
        usleep(STEP_US);
    }
}

void peer_attach(struct peer_links *links, unsigned slot, int send_buffer) {
    struct peer_end *peer = &links->peers[slot];
    struct link_format format = links->wire == WIRE_WIREGUARD ? sealed_format(MODE_TUN, true)
                                                              : plain_format(MODE_TUN, true);
    pair_open(peer->fd, SOCK_STREAM | SOCK_NONBLOCK);
    if (send_buffer > 0)
        set_send_buffer(peer->fd[0], send_buffer);
    peer->n_bytes = 0;
    peer->n_handshakes = 0;
    CHECK_EQUAL(loop_attach_link(links->worker.loop, slot, slot, peer->fd[0], &format), 0);
}

void peer_detach(struct peer_links *links, unsigned slot) {
    struct peer_end *peer = &links->peers[slot];
    loop_detach_link(links->worker.loop, slot);
    close(peer->fd[0]);
    while (peer_read(links, slot, SIZE_MAX) > 0)
        ;
    close(peer->fd[1]);
    peer->fd[0] = peer->fd[1] = -1;
}

/* -- frames ------------------------------------------------------------------------------------ */

static uint8_t content_byte(unsigned slot, uint32_t number, size_t i) {
    return (uint8_t)(i * 7 + number * 31 + slot * 101);
}

static uint32_t packets_of(uint32_t number) {
    return 1 + number % 40;
}

static void fill(uint8_t *body, unsigned slot, uint8_t kind, uint32_t number, size_t length) {
    body[0] = (uint8_t)slot | kind;
    le32_write(body + 1, number);
    for (size_t i = PEER_FRAME_MIN; i < length; i++)
        body[i] = content_byte(slot, number, i);
}

bool peer_commit(struct peer_links *links, unsigned slot, size_t length) {
    uint32_t number = links->n_published[slot];
    const struct ring_record frame = {.length = (uint32_t)(STREAM_LENGTH_PREFIX + length),
                                      .n_packets = packets_of(number),
                                      .n_bytes = (uint32_t)length,
                                      .slot = slot,
                                      .link_id = slot,
                                      .enqueued_ns = clock_now_ns()};
    struct ring_record *record = lane_try_commit(&links->lane, &frame);
    if (record == NULL)
        return false;
    links->n_published[slot]++;
    be16_write(ring_payload(record), (uint16_t)length);
    fill(ring_payload(record) + STREAM_LENGTH_PREFIX, slot, 0, number, length);
    links->n_packets[slot] += packets_of(number);
    return true;
}

void peer_publish(struct peer_links *links) {
    lane_publish(&links->lane);
}

void peer_send(struct peer_links *links, unsigned slot, size_t length) {
    CHECK(peer_commit(links, slot, length));
    peer_publish(links);
}

int peer_send_handshake(struct peer_links *links, unsigned slot, uint32_t number, size_t length) {
    uint8_t message[HANDSHAKE_BYTES_MAX];
    fill(message, slot, HANDSHAKE, number, length);
    return loop_send_message(links->worker.loop, slot, message, length);
}

/* -- the peers --------------------------------------------------------------------------------- */

static void check_frame(struct peer_end *peer, unsigned slot, const uint8_t *body, size_t length) {
    uint32_t number = le32_read(body + 1);
    CHECK(length >= PEER_FRAME_MIN);
    CHECK_EQUAL(body[0] & ~HANDSHAKE, slot);
    for (size_t i = PEER_FRAME_MIN; i < length; i++)
        if (body[i] != content_byte(slot, number, i))
            CHECK_EQUAL(body[i], content_byte(slot, number, i));
    if ((body[0] & HANDSHAKE) != 0) {
        CHECK_EQUAL(number, peer->n_handshakes); /* none is dropped or overtaken */
        peer->n_handshakes++;
        return;
    }
    CHECK(number >= peer->next_frame);
    peer->next_frame = number + 1;
    peer->n_packets += packets_of(number);
    peer->n_frame_bytes += length;
}

size_t peer_read(struct peer_links *links, unsigned slot, size_t n) {
    struct peer_end *peer = &links->peers[slot];
    size_t room = sizeof peer->bytes - peer->n_bytes, at = 0;
    ssize_t n_read = read(peer->fd[1], peer->bytes + peer->n_bytes, n < room ? n : room);
    if (n_read <= 0)
        return 0;
    peer->n_bytes += (size_t)n_read;
    while (peer->n_bytes - at >= 2 && peer->n_bytes - at - 2 >= be16_read(peer->bytes + at)) {
        size_t length = be16_read(peer->bytes + at);
        check_frame(peer, slot, peer->bytes + at + 2, length);
        at += 2 + length;
    }
    CHECK(peer->n_bytes - at < 2 || be16_read(peer->bytes + at) <= PEER_FRAME_MAX);
    memmove(peer->bytes, peer->bytes + at, peer->n_bytes - at);
    peer->n_bytes -= at;
    return (size_t)n_read;
}

void peer_read_all(struct peer_links *links, unsigned slot) {
    enum { QUIET_STEPS = 50 * 1000 / STEP_US };
    for (int quiet = 0; quiet < QUIET_STEPS; quiet++) {
        if (peer_read(links, slot, SIZE_MAX) > 0)
            quiet = 0;
        else
            usleep(STEP_US);
    }
}
