/* The four loops, one after the other, without a device:
 *
 *   app --> [device A] --> tun-reader --[ring]--> link-writer --> [stream]
 *   app <-- [device B] <-- tun-writer <--[ring]-- link-reader <-- [stream]
 *
 * A SOCK_SEQPACKET pair stands for a device: one read or write is one frame there too. The stream's
 * send buffer is the smallest that the kernel gives, so that writes end inside a frame.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "outbound/tun_reader.h"
#include "check.h"
#include "worker/key_commands.h"
#include "frames.h"
#include "sealing.h"
#include "sockets.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, N_FRAMES = 20000 };

struct lane {
    int device_a[2], device_b[2], stream[2]; /* [0] the loop's end (stream: the writer's) */
    struct lane_memory outbound, inbound; /* whose statistics and peer table are the outbound's */
    struct worker_thread workers[N_ROLES];
    struct link_format format;
};

static void set_nonblocking(int fd) {
    CHECK_EQUAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void open_sockets(struct lane *lane) {
    pair_open(lane->device_a, SOCK_SEQPACKET);
    pair_open(lane->device_b, SOCK_SEQPACKET);
    pair_open(lane->stream, SOCK_STREAM);
    set_send_buffer(lane->stream[0], 1);
    set_nonblocking(lane->device_a[0]);
    set_nonblocking(lane->stream[0]);
    set_nonblocking(lane->stream[1]);
    /* device B stays blocking: a device without room would drop, and here all shall arrive */
}

/* One peer, which may send from and to everywhere. The gateway has confirmed the key with counter
 * 0. */
static void set_keys(struct lane *lane, enum aead aead) {
    const uint8_t any[16] = {0};
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, 1);
    struct loop *reader = lane->workers[ROLE_tun_reader].loop;
    struct loop *opener = lane->workers[ROLE_link_reader].loop;
    CHECK_EQUAL(key_use_for_sending(reader, 0, aead, key, 77,
                                    &(struct counter_source){.base = UINT64_MAX}, UINT64_MAX),
                0);
    CHECK_EQUAL(key_add_for_receiving(opener, 0, aead, key, 77, 1, UINT64_MAX), 0);
    for (size_t length = 4; length <= 16; length += 12) {
        CHECK_EQUAL(loop_allow_ip(reader, 0, any, length, 0), 0);
        CHECK_EQUAL(loop_allow_ip(opener, 0, any, length, 0), 0);
    }
}

static void lane_open(struct lane *lane, struct link_format format, enum aead aead) {
    *lane = (struct lane){.format = format};
    open_sockets(lane);
    lane_memory_open(&lane->outbound, RING_BYTES);
    lane_memory_add_wake_fd(&lane->outbound);
    lane->inbound = lane->outbound;
    lane->inbound.ring = ring_create(RING_BYTES, &lane->inbound.ring_fd);
    CHECK(lane->inbound.ring != NULL);
    for (unsigned role = 0; role < N_ROLES; role++) {
        bool is_outbound = role == ROLE_tun_reader || role == ROLE_link_writer;
        worker_open(&lane->workers[role], (enum stats_role)role, format.wire, format.mode,
                    is_outbound ? &lane->outbound : &lane->inbound,
                    is_outbound ? lane->device_a[0] : lane->device_b[0]);
        int link_fd = role == ROLE_link_writer   ? lane->stream[0]
                      : role == ROLE_link_reader ? lane->stream[1]
                                                 : -1;
        if (role != ROLE_tun_writer)
            CHECK_EQUAL(loop_attach_link(lane->workers[role].loop, 0, 0, link_fd, &format), 0);
    }
    tun_reader_of(lane->workers[ROLE_tun_reader].loop)->keeps_all =
        true; /* a slow machine delays, too */
    if (format.wire == WIRE_WIREGUARD)
        set_keys(lane, aead);
    for (unsigned role = 0; role < N_ROLES; role++)
        worker_start(&lane->workers[role]);
}

static void lane_close(struct lane *lane) {
    for (unsigned role = 0; role < N_ROLES; role++)
        worker_close(&lane->workers[role]);
    ring_detach(lane->inbound.ring);
    close(lane->inbound.ring_fd);
    lane_memory_close(&lane->outbound);
    pair_close(lane->device_a);
    pair_close(lane->device_b);
    pair_close(lane->stream);
}

static uint64_t counter(struct lane *lane, enum stats_role role, enum stats_counter counter) {
    return stats_read_counter(lane->outbound.stats, role, counter);
}

static uint64_t dropped(struct lane *lane, enum stats_role role) {
    uint64_t n = 0;
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        if (stats_drop_role(drop) == (unsigned)role)
            n += stats_read_drop(lane->outbound.stats, drop);
    return n;
}

/* At rest: taken in by the reader = delivered by the writer + drops of both. */
static void check_balance(struct lane *lane, enum stats_role reader, enum stats_role writer) {
    CHECK_EQUAL(counter(lane, reader, COUNTER_packets), counter(lane, writer, COUNTER_packets) +
                                                            dropped(lane, reader) +
                                                            dropped(lane, writer));
}

static void lane_stop(struct lane *lane) {
    for (unsigned role = 0; role < N_ROLES; role++)
        CHECK_EQUAL(worker_stop(&lane->workers[role]), LOOP_DOORBELL);
    CHECK_EQUAL(ring_used_bytes(lane->outbound.ring), 0);
    CHECK_EQUAL(ring_used_bytes(lane->inbound.ring), 0);
    check_balance(lane, ROLE_tun_reader, ROLE_link_writer);
    check_balance(lane, ROLE_link_reader, ROLE_tun_writer);
}

/* -- traffic ----------------------------------------------------------------------------------- */

struct traffic {
    struct lane *lane;
    size_t n_kinds;            /* of frames that are sent */
    size_t n_packets, n_bytes; /* as the sender counts */
};

static void next_frame(struct frame *frame, struct random *random, const struct traffic *traffic) {
    const struct link_format *format = &traffic->lane->format;
    frame_make_any(frame, random, format->mode, traffic->n_kinds,
                   format->message_max - MESSAGE_TYPE_LENGTH - VNET_LENGTH);
}

static void *send_frames(void *argument) {
    struct traffic *traffic = argument;
    struct random random = {123};
    struct frame *frame = malloc(sizeof *frame);
    for (int i = 0; i < N_FRAMES; i++) {
        next_frame(frame, &random, traffic);
        traffic->n_packets += frame->n_packets;
        traffic->n_bytes += frame->length - VNET_LENGTH;
        CHECK_EQUAL(write(traffic->lane->device_a[1], frame->bytes, frame->length), frame->length);
    }
    free(frame);
    return NULL;
}

/* The frame comes as plain packets, whose payloads are its own; their headers are judged in
 * test_splitting. */
static void receive_segments(int device, const struct frame *frame, uint8_t *bytes) {
    struct vnet vnet = vnet_read(frame->bytes);
    size_t header = vnet.csum_start + (vnet.csum_offset == 6 ? 8u : 20u);
    size_t size = vnet.gso_size != 0 ? vnet.gso_size : MESSAGE_MAX;
    size_t left = frame->length - VNET_LENGTH - header;
    const uint8_t *payload = frame->bytes + VNET_LENGTH + header;
    for (size_t i = 0; i < frame->n_packets; i++) {
        size_t length = left < size ? left : size;
        CHECK_EQUAL(read(device, bytes, sizeof frame->bytes), VNET_LENGTH + header + length);
        struct vnet plain = vnet_read(bytes);
        CHECK(vnet_is_plain(&plain));
        CHECK_EQUAL(memcmp(bytes + VNET_LENGTH + header, payload, length), 0);
        payload += length;
        left -= length;
    }
    CHECK_EQUAL(left, 0);
}

/* Makes the same frames once more and compares. */
static void receive_frames(struct traffic *traffic) {
    struct random random = {123};
    struct frame *frame = malloc(sizeof *frame);
    uint8_t *bytes = malloc(sizeof frame->bytes);
    int device = traffic->lane->device_b[1];
    for (int i = 0; i < N_FRAMES; i++) {
        next_frame(frame, &random, traffic);
        if (frame->bytes[0] != 0 && !traffic->lane->format.super_outbound) {
            receive_segments(device, frame, bytes);
            continue;
        }
        CHECK_EQUAL(read(device, bytes, sizeof frame->bytes), frame->length);
        CHECK_EQUAL(memcmp(bytes, frame->bytes, frame->length), 0);
    }
    free(frame);
    free(bytes);
}

static void check_sealed_traffic(struct link_format format, enum aead aead, size_t n_kinds) {
    struct lane lane;
    struct traffic traffic = {.lane = &lane, .n_kinds = n_kinds};
    pthread_t sender;
    lane_open(&lane, format, aead);
    CHECK_EQUAL(pthread_create(&sender, NULL, send_frames, &traffic), 0);
    receive_frames(&traffic);
    pthread_join(sender, NULL);
    lane_stop(&lane);
    CHECK_EQUAL(counter(&lane, ROLE_tun_reader, COUNTER_frames), N_FRAMES);
    CHECK_EQUAL(counter(&lane, ROLE_tun_reader, COUNTER_packets), traffic.n_packets);
    CHECK_EQUAL(counter(&lane, ROLE_tun_reader, COUNTER_bytes), traffic.n_bytes);
    CHECK_EQUAL(counter(&lane, ROLE_tun_writer, COUNTER_packets), traffic.n_packets);
    for (unsigned role = 0; role < N_ROLES; role++)
        CHECK_EQUAL(dropped(&lane, (enum stats_role)role), 0);
    /* the send buffer was smaller than a batch: EAGAIN, and so frames cut in two */
    CHECK(stats_read_call(lane.outbound.stats, ROLE_link_writer, CALL_epoll_wait) > 10);
    lane_close(&lane);
}

static void check_traffic(struct link_format format, size_t n_kinds) {
    check_sealed_traffic(format, AEAD_CHACHA20_POLY1305, n_kinds);
}

static void tun_frames_and_super_packets_arrive_byte_for_byte(void) {
    check_traffic(plain_format(MODE_TUN, true), N_FRAME_KINDS);
}

static void tap_frames_and_super_packets_arrive_byte_for_byte(void) {
    check_traffic(plain_format(MODE_TAP, true), N_FRAME_KINDS);
}

static void super_packets_for_a_peer_that_takes_none_arrive_as_packets(void) {
    check_traffic(plain_format(MODE_TUN, false), N_FRAME_KINDS);
    check_traffic(plain_format(MODE_TAP, false), N_FRAME_KINDS);
}

static void simpletun_frames_arrive_byte_for_byte(void) {
    check_traffic(simpletun_format(MODE_TUN), N_PLAIN_KINDS);
    check_traffic(simpletun_format(MODE_TAP), N_PLAIN_KINDS);
}

static void sealed_tun_frames_and_super_packets_arrive_byte_for_byte(void) {
    check_sealed_traffic(sealed_format(MODE_TUN, true), AEAD_CHACHA20_POLY1305, N_FRAME_KINDS);
    check_sealed_traffic(sealed_format(MODE_TUN, true), AEAD_AES_256_GCM, N_FRAME_KINDS);
}

static void sealed_tap_frames_and_super_packets_arrive_byte_for_byte(void) {
    check_sealed_traffic(sealed_format(MODE_TAP, true), AEAD_CHACHA20_POLY1305, N_FRAME_KINDS);
    check_sealed_traffic(sealed_format(MODE_TAP, true), AEAD_AES_256_GCM, N_FRAME_KINDS);
}

/* As to a plain WireGuard peer. */
static void sealed_super_packets_for_a_peer_that_takes_none_arrive_as_packets(void) {
    check_sealed_traffic(sealed_format(MODE_TUN, false), AEAD_CHACHA20_POLY1305, N_FRAME_KINDS);
}

int main(void) {
    RUN(tun_frames_and_super_packets_arrive_byte_for_byte);
    RUN(tap_frames_and_super_packets_arrive_byte_for_byte);
    RUN(super_packets_for_a_peer_that_takes_none_arrive_as_packets);
    RUN(simpletun_frames_arrive_byte_for_byte);
    RUN(sealed_tun_frames_and_super_packets_arrive_byte_for_byte);
    RUN(sealed_tap_frames_and_super_packets_arrive_byte_for_byte);
    RUN(sealed_super_packets_for_a_peer_that_takes_none_arrive_as_packets);
    return EXIT_SUCCESS;
}
