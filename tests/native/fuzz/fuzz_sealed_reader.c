/* A peer that has the key and still breaks every rule: any content is sealed for it, or its bytes
 * go into the stream as they are. Input: the format, then chunks of `what u8, half its length u8,
 * bytes`.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <unistd.h>

#include "packet/byteorder.h"
#include "fuzz.h"
#include "loop/loop.h"
#include "sealing.h"

enum { RING_BYTES = 1 << 21, STREAM_MAX = 128 * 1024, INPUT_MAX = 8192, INDEX = 0x20206006 };

static struct ring *producer, *consumer;
static struct stats *stats;
static struct peer_table *peers;
static int channel[2];
static uint8_t stream_bytes[STREAM_MAX];
static size_t stream_length;

static void open_once(void) {
    int ring_fd, stats_fd, peers_fd;
    if (producer != NULL)
        return;
    producer = ring_create(RING_BYTES, &ring_fd);
    consumer = ring_attach(ring_fd, RING_BYTES);
    stats = stats_create(&stats_fd);
    peers = peer_table_create(&peers_fd);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
}

static void append(const uint8_t *bytes, size_t length) {
    if (stream_length + length > STREAM_MAX)
        return;
    memcpy(stream_bytes + stream_length, bytes, length);
    stream_length += length;
}

/* Bits of `what`: 1 as it is; 2 the cipher; 4 one bit bent; 8 the same counter again. */
static void append_chunk(uint8_t what, uint64_t *counter, const uint8_t *bytes, size_t length) {
    static struct sealed_message sealed;
    if ((what & 1) != 0) {
        append(bytes, length);
        return;
    }
    enum aead aead = (what & 2) != 0 ? AEAD_AES_256_GCM : AEAD_CHACHA20_POLY1305;
    *counter += (what & 8) == 0;
    sealed_make(&sealed, aead, 1, INDEX + ((what & 2) != 0), *counter, bytes, length);
    if ((what & 4) != 0) /* not in the prefix: the framing is the plain wires' target */
        sealed.bytes[STREAM_LENGTH_PREFIX + what % (sealed.length - STREAM_LENGTH_PREFIX)] ^=
            (uint8_t)(1 << (what >> 5));
    append(sealed.bytes, sealed.length);
}

static void build_stream(const uint8_t *data, size_t size) {
    uint64_t counter = 0;
    stream_length = 0;
    while (size >= 2) {
        size_t length = data[1] * 2u < size - 2 ? data[1] * 2u : size - 2;
        append_chunk(data[0], &counter, data + 2, length);
        data += 2 + length;
        size -= 2 + length;
    }
}

static struct loop *open_loop(const struct link_format *format, int fd) {
    const uint8_t net[4] = {10}, net6[16] = {0xfd};
    uint8_t key[AEAD_KEY_SIZE];
    struct loop *loop = loop_new(ROLE_link_reader, WIRE_WIREGUARD, format->mode, producer, stats,
                                 peers, -1, channel[1], -1);
    sealing_key(key, 1);
    FUZZ_CHECK(loop != NULL && loop_attach_link(loop, 0, 0, fd, format) == 0);
    FUZZ_CHECK(loop_add_receiving_key(loop, 0, AEAD_CHACHA20_POLY1305, key, INDEX, 0, UINT64_MAX) ==
               0);
    FUZZ_CHECK(loop_add_receiving_key(loop, 0, AEAD_AES_256_GCM, key, INDEX + 1, 0, UINT64_MAX) ==
               0);
    FUZZ_CHECK(loop_allow_ip(loop, 0, net, 4, 8) == 0);
    FUZZ_CHECK(loop_allow_ip(loop, 0, net6, 16, 8) == 0);
    return loop;
}

static void run_to_the_end(struct loop *loop) {
    int n_confirmed = 0;
    for (;;) {
        FUZZ_CHECK(loop_run(loop) == LOOP_EVENT);
        const struct loop_event *event = loop_event(loop);
        if (event->kind == EVENT_LINK_CLOSED || event->kind == EVENT_LINK_FAULT)
            break;
        if (event->kind == EVENT_CONFIRMED)
            FUZZ_CHECK(++n_confirmed <= 2);
        else
            FUZZ_CHECK(event->kind == EVENT_STREAM_HANDSHAKE &&
                       event->length <= HANDSHAKE_BYTES_MAX);
    }
}

static void check_source(const uint8_t *packet) {
    FUZZ_CHECK(packet[0] >> 4 == 4 ? packet[12] == 10 : packet[8] == 0xfd);
}

static uint64_t check_records(const struct link_format *format) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(consumer), n_packets = 0;
    bool corrupt = false;
    for (; (record = ring_peek(consumer, &cursor, &corrupt)) != NULL;
         n_packets += record->n_packets) {
        const uint8_t *frame = record->payload + VNET_LENGTH;
        struct vnet vnet = vnet_read(record->payload);
        FUZZ_CHECK(record->length == VNET_LENGTH + record->n_bytes);
        FUZZ_CHECK(vnet_check(&vnet, frame, record->n_bytes,
                              format->mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0) ==
                   (int)record->n_packets);
        if (format->mode == MODE_TUN)
            check_source(frame);
    }
    FUZZ_CHECK(!corrupt);
    ring_release(consumer, cursor, &stats->blocks[ROLE_tun_writer]);
    return n_packets;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int stream[2], room = 4 * STREAM_MAX;
    if (size < 1 || size > INPUT_MAX)
        return 0;
    open_once();
    build_stream(data + 1, size - 1);
    struct link_format format =
        sealed_format((data[0] & 1) != 0 ? MODE_TAP : MODE_TUN, (data[0] & 2) == 0);
    memset(stats, 0, sizeof *stats);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
    FUZZ_CHECK(setsockopt(stream[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    FUZZ_CHECK(write(stream[1], stream_bytes, stream_length) == (ssize_t)stream_length);
    close(stream[1]);
    struct loop *loop = open_loop(&format, stream[0]);
    run_to_the_end(loop);
    loop_free(loop);
    close(stream[0]);
    uint64_t n_accounted = check_records(&format);
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        n_accounted += stats_read_drop(stats, drop);
    FUZZ_CHECK(stats_read_counter(stats, ROLE_link_reader, COUNTER_packets) == n_accounted);
    return 0;
}
