/* The link-reader on UDP before a device that is slow: the ring fills in the middle of what one
 * call has read, and what is left of it is passed on when there is room, in order and once. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "inbound/link_reader.h"
#include "packet/byteorder.h"
#include "check.h"
#include "datagram_link.h"

enum {
    BIG_PACKET = 1200,
    MESSAGE = DATA_MESSAGE_MIN + BIG_PACKET,
    TRAIN = 40, /* datagrams; a socket holds as many without any right to more */
    N_TRAINS = 100,
    /* The ring has no room for one more message, since any may become a whole super-packet. */
    FULL_BYTES = RING_BYTES - MESSAGE_MAX - 2 * BIG_PACKET,
};

struct device {
    struct ring *ring;
    struct stats_block stats;
    _Atomic bool is_over; /* all has been sent and passed on */
    _Atomic uint32_t n_filled;
    uint32_t n_packets; /* taken from the ring */
};

static struct device device;

/* Every packet has its number behind the header. */
static void check_record(const struct ring_view *record) {
    const uint8_t *packet = record->payload + VNET_LENGTH;
    CHECK_EQUAL(record->n_bytes, BIG_PACKET);
    CHECK_EQUAL(be32_read(packet + IPV4_HEADER_SIZE), device.n_packets);
    CHECK_EQUAL(packet[BIG_PACKET - 1], (uint8_t)device.n_packets);
    device.n_packets++;
}

static void take_all(void) {
    uint64_t cursor = ring_first(device.ring);
    const struct ring_view *record;
    bool corrupt = false;
    while ((record = ring_peek(device.ring, &cursor, &corrupt)) != NULL)
        check_record(record);
    CHECK(!corrupt);
    ring_release(device.ring, cursor, &device.stats);
}

/* Takes nothing until the ring is full, then everything, again and again. */
static void *take_when_full(void *argument) {
    (void)argument;
    while (!atomic_load(&device.is_over)) {
        if (ring_used_bytes(device.ring) < FULL_BYTES) {
            usleep(100);
            continue;
        }
        usleep(2000); /* the loop finds it full, and sleeps */
        device.n_filled++;
        take_all();
    }
    take_all();
    return NULL;
}

static void send_train(uint32_t first) {
    static uint8_t train[TRAIN * MESSAGE];
    uint8_t packet[BIG_PACKET];
    for (uint32_t i = 0; i < TRAIN; i++) {
        ipv4_make(packet, BIG_PACKET, PEER_ADDRESS, OUR_ADDRESS);
        be32_write(packet + IPV4_HEADER_SIZE, first + i);
        packet[BIG_PACKET - 1] = (uint8_t)(first + i);
        sealed_make(&sealed, reader.aead, KEY, INDEX, first + i, packet, BIG_PACKET);
        memcpy(train + i * MESSAGE, sealed.bytes + STREAM_LENGTH_PREFIX, MESSAGE);
    }
    datagrams_send_train(0, train, sizeof train, MESSAGE);
}

static void open_device(void) {
    device = (struct device){.ring = ring_attach(reader.lane.ring_fd, RING_BYTES)};
    CHECK(device.ring != NULL);
}

static void a_full_ring_loses_nothing_of_what_was_read(void) {
    for (int has_offload = 0; has_offload < 2; has_offload++) {
        pthread_t taker;
        datagrams_open(AEAD_AES_256_GCM, has_offload);
        open_device();
        CHECK_EQUAL(pthread_create(&taker, NULL, take_when_full, NULL), 0);
        for (uint32_t i = 0; i < N_TRAINS; i++) {
            send_train(i * TRAIN);
            datagrams_run();
        }
        atomic_store(&device.is_over, true);
        pthread_join(taker, NULL);
        CHECK_EQUAL(device.n_packets, N_TRAINS * TRAIN);
        CHECK(device.n_filled >= 3);
        CHECK_EQUAL(field(SLOT, "receive_packets"), N_TRAINS * TRAIN);
        CHECK_EQUAL(reader.n_events, 1); /* the key is confirmed */
        ring_detach(device.ring);
        datagrams_close();
    }
}

/* Trains, until another one would not fit whole; returns how many. */
static uint32_t nearly_fill_ring(void) {
    uint32_t n = 0;
    while (ring_used_bytes(device.ring) + TRAIN * (BIG_PACKET + 256) < FULL_BYTES) {
        send_train(n++ * TRAIN);
        datagrams_run();
    }
    return n;
}

static void *ring_bell(void *argument) {
    (void)argument;
    while (ring_used_bytes(device.ring) < FULL_BYTES)
        usleep(100);
    usleep(5000);
    CHECK_EQUAL(write(reader.worker.channel[0], "!", 1), 1);
    ring_doorbell_producer(device.ring);
    return NULL;
}

static void a_full_ring_does_not_keep_the_loop_from_the_gateway(void) {
    pthread_t gateway;
    char bell;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    open_device();
    uint32_t n = nearly_fill_ring();
    send_train(n++ * TRAIN);
    send_train(n++ * TRAIN);
    CHECK_EQUAL(pthread_create(&gateway, NULL, ring_bell, NULL), 0);
    CHECK_EQUAL(loop_run(reader.loop), LOOP_DOORBELL);
    pthread_join(gateway, NULL);
    loop_take_bell(reader.loop);
    CHECK_EQUAL(read(reader.worker.channel[1], &bell, 1), 1);
    CHECK_EQUAL(link_reader_of(reader.loop)->undrained_source,
                SOURCE_DATAGRAMS); /* it stopped inside a train */
    take_all();
    datagrams_run();
    take_all();
    CHECK_EQUAL(device.n_packets, n * TRAIN);
    ring_detach(device.ring);
    datagrams_close();
}

int main(void) {
    RUN(a_full_ring_loses_nothing_of_what_was_read);
    RUN(a_full_ring_does_not_keep_the_loop_from_the_gateway);
    return EXIT_SUCCESS;
}
