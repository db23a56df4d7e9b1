/* Any byte stream before the link-reader: it ends, counts what it took in, and leaves only frames
 * in the ring that the device can be given. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "loop/loop.h"

enum { RING_BYTES = 1 << 21, STREAM_MAX = 32768 /* its smallest frames fill half the ring */ };

static struct ring *producer, *consumer;
static struct stats *stats;
static struct peer_table *peers;
static int channel[2];

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

static uint64_t check_records(const struct link_format *format) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(consumer), n_packets = 0;
    bool corrupt = false;
    for (; (record = ring_peek(consumer, &cursor, &corrupt)) != NULL;
         n_packets += record->n_packets) {
        const uint8_t *frame = record->payload + VNET_LENGTH;
        struct vnet vnet = vnet_read(record->payload);
        FUZZ_CHECK(record->length == VNET_LENGTH + record->n_bytes);
        FUZZ_CHECK(vnet_check(&vnet, frame, record->n_bytes, format->mode == MODE_TAP ? 14 : 0) ==
                   (int)record->n_packets);
    }
    FUZZ_CHECK(!corrupt);
    ring_release(consumer, cursor, &stats->blocks[ROLE_tun_writer]);
    return n_packets;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int stream[2];
    if (size < 1 || size > STREAM_MAX)
        return 0;
    open_once();
    struct link_format format = fuzz_format(data[0]);
    memset(stats, 0, sizeof *stats);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
    FUZZ_CHECK(write(stream[1], data + 1, size - 1) == (ssize_t)size - 1);
    close(stream[1]);
    struct loop *loop = loop_new(ROLE_link_reader, format.wire, format.mode, producer, stats, peers,
                                 -1, channel[1], -1);
    FUZZ_CHECK(loop_attach_link(loop, 0, 0, stream[0], &format) == 0);
    FUZZ_CHECK(loop_run(loop) == LOOP_EVENT);
    enum event_kind end = loop_event(loop)->kind;
    FUZZ_CHECK(end == EVENT_LINK_CLOSED || end == EVENT_LINK_FAULT);
    loop_free(loop);
    close(stream[0]);
    uint64_t n_accounted = check_records(&format);
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        n_accounted += stats_read_drop(stats, drop);
    FUZZ_CHECK(stats_read_counter(stats, ROLE_link_reader, COUNTER_packets) == n_accounted);
    return 0;
}
