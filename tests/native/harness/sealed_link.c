#define _GNU_SOURCE
#include "sealed_link.h"

#include <string.h>
#include <sys/socket.h>

#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "sockets.h"

const enum aead aeads[2] = {AEAD_CHACHA20_POLY1305, AEAD_AES_256_GCM};
struct sealed_message sealed;
struct reader reader;

void allow(unsigned slot, uint32_t address) {
    uint8_t v4[4] = {(uint8_t)(address >> 24), (uint8_t)(address >> 16), (uint8_t)(address >> 8),
                     (uint8_t)address};
    uint8_t v6[16] = {0xfd};
    memcpy(v6 + 12, v4, 4);
    CHECK_EQUAL(loop_allow_ip(reader.loop, slot, v4, 4, 32), 0);
    CHECK_EQUAL(loop_allow_ip(reader.loop, slot, v6, 16, 128), 0);
}

void add_key(unsigned key_number, uint32_t index, uint64_t counter) {
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, key_number);
    CHECK_EQUAL(
        key_add_for_receiving(reader.loop, SLOT, reader.aead, key, index, counter, UINT64_MAX), 0);
}

static enum event_kind run_to_the_end(void);

static void prepare(enum aead aead) {
    reader = (struct reader){.aead = aead};
    lane_memory_open(&reader.lane, RING_BYTES);
}

static void open_prepared(enum mode mode) {
    struct link_format format = sealed_format(mode, true);
    worker_open(&reader.worker, ROLE_link_reader, WIRE_WIREGUARD, mode, &reader.lane, -1);
    reader.loop = reader.worker.loop;
    pair_open(reader.stream, SOCK_STREAM | SOCK_NONBLOCK);
    set_send_buffer(reader.stream[1], 1 << 20);
    CHECK_EQUAL(loop_attach_link(reader.loop, SLOT, 1, reader.stream[0], &format), 0);
    allow(SLOT, PEER_ADDRESS);
    allow(OTHER_SLOT, OTHER_ADDRESS);
}

void reader_open_mode(enum aead aead, enum mode mode) {
    prepare(aead);
    open_prepared(mode);
}

void reader_open_switch(enum aead aead) {
    prepare(aead);
    lane_memory_add_switch(&reader.lane);
    open_prepared(MODE_TAP);
    add_key(KEY, INDEX, 0);
}

void reader_run_to_the_end(void) {
    CHECK_EQUAL(run_to_the_end(), EVENT_LINK_CLOSED);
}

void reader_open(enum aead aead) {
    reader_open_mode(aead, MODE_TUN);
    add_key(KEY, INDEX, 0);
}

void reader_close(void) {
    worker_close(&reader.worker);
    lane_memory_close(&reader.lane);
    pair_close(reader.stream);
}

/* -- what the peer sends ----------------------------------------------------------------------- */

void send_sealed(void) {
    CHECK_EQUAL(write(reader.stream[1], sealed.bytes, sealed.length), sealed.length);
}

void send_content(uint64_t counter, const uint8_t *content, size_t length) {
    sealed_make(&sealed, reader.aead, KEY, INDEX, counter, content, length);
    send_sealed();
}

void make_packet(unsigned key_number, uint32_t index, uint64_t counter) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, PEER_ADDRESS, OUR_ADDRESS);
    sealed_make(&sealed, reader.aead, key_number, index, counter, packet, PACKET);
}

void send_good(uint64_t counter) {
    make_packet(KEY, INDEX, counter);
    send_sealed();
}

void send_raw(const uint8_t *message, size_t length) {
    be16_write(sealed.bytes, (uint16_t)length);
    memcpy(sealed.bytes + STREAM_LENGTH_PREFIX, message, length);
    sealed.length = STREAM_LENGTH_PREFIX + length;
    send_sealed();
}

/* -- what comes of it -------------------------------------------------------------------------- */

static enum event_kind run_to_the_end(void) {
    CHECK_EQUAL(shutdown(reader.stream[1], SHUT_WR), 0);
    for (;;) {
        CHECK_EQUAL(loop_run(reader.loop), LOOP_EVENT);
        const struct loop_event *event = loop_event(reader.loop);
        CHECK_EQUAL(event->slot, SLOT);
        CHECK_EQUAL(event->link_id, 1);
        if (event->kind <= EVENT_LINK_ERROR)
            return event->kind;
        CHECK(reader.n_events < EVENTS_MAX);
        reader.events[reader.n_events++] = *event;
    }
}

uint64_t field(unsigned slot, const char *name) {
    return lane_peer_field(&reader.lane, slot, name);
}

void check_counted(size_t n_passed, unsigned reason, size_t n_dropped) {
    CHECK_EQUAL(lane_count_records(&reader.lane), n_passed);
    CHECK_EQUAL(stats_read_counter(reader.lane.stats, ROLE_link_reader, COUNTER_packets),
                n_passed + n_dropped);
    CHECK_EQUAL(field(SLOT, "receive_packets"), n_passed);
    CHECK_EQUAL(field(OTHER_SLOT, "receive_packets"), 0);
    lane_check_dropped(&reader.lane, reason, n_dropped);
}

void check_counts(size_t n_passed, unsigned reason, size_t n_dropped) {
    CHECK_EQUAL(run_to_the_end(), EVENT_LINK_CLOSED);
    check_counted(n_passed, reason, n_dropped);
}

size_t count_events(enum event_kind kind) {
    size_t n = 0;
    for (size_t i = 0; i < reader.n_events; i++)
        n += reader.events[i].kind == kind;
    return n;
}
