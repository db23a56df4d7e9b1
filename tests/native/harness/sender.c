#define _GNU_SOURCE
#include "sender.h"

#include <string.h>
#include <unistd.h>

#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "sockets.h"

struct sender sender;
struct opened opened;
uint64_t cursor;

static void open_before(enum wire wire, enum mode mode, int device_fd) {
    lane_memory_open(&sender.lane, SENDER_RING_BYTES);
    worker_open(&sender.worker, ROLE_tun_reader, wire, mode, &sender.lane, device_fd);
    cursor = ring_first(sender.lane.ring);
}

void sender_open_wire(enum wire wire, enum mode mode) {
    sender = (struct sender){.wire = wire};
    pair_open(sender.device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    open_before(wire, mode, sender.device[0]);
}

void sender_open_switch(void) {
    sender = (struct sender){.wire = WIRE_WIREGUARD};
    pair_open(sender.device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    lane_memory_open(&sender.lane, SENDER_RING_BYTES);
    lane_memory_add_switch(&sender.lane);
    worker_open(&sender.worker, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TAP, &sender.lane,
                sender.device[0]);
    cursor = ring_first(sender.lane.ring);
}

void sender_open_lane(unsigned lane) {
    sender = (struct sender){.wire = WIRE_WIREGUARD, .worker.lane = lane};
    pair_open(sender.device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    lane_memory_open(&sender.lane, SENDER_RING_BYTES);
    lane_memory_add_lane(&sender.lane);
    worker_open(&sender.worker, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &sender.lane,
                sender.device[0]);
    cursor = ring_first(sender.lane.ring);
}

void sender_open(enum mode mode) {
    sender_open_wire(WIRE_WIREGUARD, mode);
}

void sender_open_device(enum mode mode, int device_fd) {
    sender = (struct sender){.wire = WIRE_WIREGUARD, .device = {-1, -1}};
    open_before(WIRE_WIREGUARD, mode, device_fd);
}

void sender_close(void) {
    worker_close(&sender.worker);
    lane_memory_close(&sender.lane);
    if (sender.device[0] >= 0)
        pair_close(sender.device);
}

void sender_attach(unsigned slot, struct link_format format) {
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, slot, slot, -1, &format), 0);
}

/* A session that is set again goes on; another one begins with `first`. */
static uint64_t base_of(unsigned slot, unsigned session, uint64_t first) {
    struct sender_session *known = &sender.sessions[slot][session % SENDING_PLACES];
    uint64_t drawn = sending_counters_drawn(sender.lane.sending, slot, session % SENDING_PLACES);
    if (!known->is_known || known->session != session)
        *known = (struct sender_session){true, session, drawn - first};
    return known->base;
}

void set_session(unsigned slot, enum aead aead, unsigned session, uint64_t first,
                 uint64_t expires_ns) {
    uint8_t key[AEAD_KEY_SIZE];
    const struct counter_source source = {session % SENDING_PLACES, base_of(slot, session, first)};
    sealing_key(key, slot);
    CHECK_EQUAL(key_use_for_sending(sender.worker.loop, slot, aead, key,
                                    slot + session * N_PEER_SLOTS, &source, expires_ns),
                0);
}

void set_key(unsigned slot, enum aead aead, uint64_t first) {
    set_session(slot, aead, 0, first, UINT64_MAX);
}

void sender_allow(unsigned slot, const uint8_t *address, size_t length, unsigned prefix_length) {
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, slot, address, length, prefix_length), 0);
}

void sender_allow_ten(unsigned slot) {
    sender_allow(slot, (const uint8_t[4]){10}, 4, 8);
    sender_allow(slot, (const uint8_t[16]){0xfd}, 16, 8);
}

/* -- the device -------------------------------------------------------------------------------- */

void sender_run(void) {
    enum loop_end end;
    CHECK_EQUAL(write(sender.worker.channel[0], "!", 1), 1);
    while ((end = loop_run(sender.worker.loop)) == LOOP_EVENT) {
        CHECK(sender.n_events < SENDER_EVENTS_MAX);
        sender.events[sender.n_events++] = *loop_event(sender.worker.loop);
    }
    CHECK_EQUAL(end, LOOP_DOORBELL);
    char bell;
    CHECK_EQUAL(read(sender.worker.channel[1], &bell, 1), 1);
}

void give_frame(const void *bytes, size_t length) {
    CHECK_EQUAL(write(sender.device[1], bytes, length), length);
}

void give(const uint8_t *packet, size_t length) {
    static uint8_t bytes[VNET_LENGTH + MESSAGE_MAX]; /* its header stays zero */
    memcpy(bytes + VNET_LENGTH, packet, length);
    give_frame(bytes, VNET_LENGTH + length);
}

void give_packet(uint32_t destination) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, US, destination);
    give(packet, PACKET);
}

/* -- the ring ---------------------------------------------------------------------------------- */

size_t open_message(enum aead aead, bool is_datagram, const uint8_t *bytes, size_t length) {
    uint8_t key[AEAD_KEY_SIZE];
    const uint8_t *message = is_datagram ? bytes : bytes + STREAM_LENGTH_PREFIX;
    size_t message_length = is_datagram ? length : be16_read(bytes);
    size_t taken = (size_t)(message - bytes) + message_length;
    sealing_key(key, opened.record->slot);
    struct receiving_key receiving = {.keys = {NULL}};
    aead_load_fastest();
    receiving.keys[aead] = aead_key_new(aead, key);
    CHECK(taken <= length && session_is_data(message, message_length));
    CHECK_EQUAL(session_receiver_index(message) % N_PEER_SLOTS, opened.record->slot);
    opened.counter = le64_read(message + 8);
    opened.length = session_open(&receiving, message, message_length, opened.content);
    CHECK(opened.length >= 0);
    aead_key_free(receiving.keys[aead]);
    return taken;
}

bool open_next(enum aead aead) {
    bool corrupt = false;
    opened.record = ring_peek(sender.lane.ring, &cursor, &corrupt);
    CHECK(!corrupt);
    if (opened.record == NULL)
        return false;
    CHECK_EQUAL(opened.record->link_id, opened.record->slot);
    CHECK_EQUAL(open_message(aead, false, opened.record->payload, opened.record->length),
                opened.record->length);
    return true;
}

void sender_release(void) {
    ring_release(sender.lane.ring, cursor, &sender.lane.ring_stats);
}

/* -- counters ---------------------------------------------------------------------------------- */

uint64_t sender_counter(enum stats_counter which) {
    return stats_read_counter(sender.lane.stats, ROLE_tun_reader, which);
}

uint64_t sender_dropped(enum stats_drop drop) {
    return stats_read_drop(sender.lane.stats, drop);
}

uint64_t sender_dropped_in_all(void) {
    return lane_dropped_in_all(&sender.lane);
}

uint64_t sender_field(unsigned slot, const char *name) {
    return lane_peer_field(&sender.lane, slot, name);
}
