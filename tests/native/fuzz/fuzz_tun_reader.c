/* Any frames of a device, and any of another worker in an attacker's hands in the hairpin or the ring
 * from another lane, before the tun-reader: it takes each, counts it, and what it puts into its ring
 * is sealed messages. Input: what it is set to, then frames `length u16, destination u8, bytes`, each
 * for the device or, of a TAP device or one of several lanes, the other ring. */
#define _GNU_SOURCE
#include "capture.h"
#include "formats.h"
#include "fuzz_ring.h"
#include "lanes.h"
#include "outbound/tun_reader.h"
#include "sender.h"
#include "sockets.h"

enum {
    LEAD = 3,
    N_FRAMES_MAX = 24,
    HAS_LANES = 64,
    STREAM = 1,
    DATAGRAM = 2,
    PIECES = 3,
    FRAME_MAX = 8192,
    N_RUNS_MAX = 1000
};

enum kind { OF_TUN, OF_TAP, OF_LANES, N_KINDS };

/* Of each kind one is made for many inputs, since memory and sockets cost more than most of these; that
 * which is in use is `sender`. */
static struct sender others[N_KINDS];
static unsigned n_runs[N_KINDS];
static enum kind current;

static struct ring *copies;

/* Of what it reads and seals; nothing takes it, and it is lost when the ring is full. */
static void capture(void) {
    static int fd;
    if (copies == NULL)
        copies = ring_create(RING_SIZE_MIN, &fd);
    CHECK_EQUAL(loop_capture(sender.worker.loop, copies, 1 << CAPTURE_DEVICE | 1 << CAPTURE_SEALED,
                             CAPTURE_ALL_PEERS, 200),
                0);
}

static enum kind kind_of(uint8_t what) {
    return (what & 1) != 0 ? OF_TAP : (what & HAS_LANES) != 0 ? OF_LANES : OF_TUN;
}

static void open_kind(enum kind kind) {
    if (kind != current) {
        others[current] = sender;
        sender = others[kind];
        current = kind;
    }
    if (n_runs[kind] == N_RUNS_MAX) {
        sender_close();
        n_runs[kind] = 0;
    }
    if (n_runs[kind]++ > 0)
        return;
    if (kind == OF_TAP)
        sender_open_switch();
    else if (kind == OF_LANES)
        sender_open_lane(1);
    else
        sender_open(MODE_TUN);
}

static void set_up(uint8_t what) {
    struct link_format datagrams = datagram_format(1420);
    bool is_tap = (what & 1) != 0;
    open_kind(kind_of(what));
    cursor = ring_first(sender.lane.ring);
    datagrams.mode = is_tap ? MODE_TAP : MODE_TUN;
    sender_attach(STREAM, sealed_format(datagrams.mode, true));
    sender_attach(DATAGRAM, datagrams);
    sender_attach(PIECES, datagrams);
    for (unsigned slot = STREAM; slot <= PIECES; slot++) {
        set_key(slot, AEAD_AES_256_GCM, 0);
        sender_allow(slot, (const uint8_t[4]){10, (uint8_t)slot}, 4, 16);
        sender_allow(slot, (const uint8_t[16]){0xfd, (uint8_t)slot}, 16, 16);
        loop_set_packet_max(sender.worker.loop, slot, (what & 2) != 0 ? 200 : 0,
                            (what & 4) != 0 ? 250 : 0);
    }
    loop_join_pieces(sender.worker.loop, PIECES, JOINS_FRAMES | JOINS_SUPER_PACKETS);
    if (!is_tap && (what & HAS_LANES) != 0) /* of the first two peers, whose link is here as well */
        for (unsigned slot = STREAM; slot <= DATAGRAM; slot++)
            loop_set_ways(sender.worker.loop, slot, (const uint8_t[2]){0, 1}, 2, slot == STREAM);
    if ((what & 8) != 0)
        loop_clamp_mss(sender.worker.loop, 1280);
    if ((what & 16) != 0)
        loop_set_rate_limit(sender.worker.loop, STREAM, 1000, 2000, 0);
    if ((what & 32) != 0)
        capture();
}

/* Most frames are for a peer: else none would get far. */
static void address(uint8_t *frame, size_t length, uint8_t to, bool is_tap) {
    size_t ip = VNET_LENGTH + (is_tap ? ETHERNET_HEADER_SIZE : 0);
    if (length < ip + IPV6_HEADER_SIZE || to == 0)
        return;
    if (ip_version(frame + ip) == 4) {
        frame[ip + 16] = 10;
        frame[ip + 17] = 1 + to % 3;
    } else {
        frame[ip + 24] = 0xfd;
        frame[ip + 25] = 1 + to % 3;
    }
}

static uint64_t give_frames(const uint8_t *data, size_t size, bool is_tap) {
    static uint8_t frame[FRAME_MAX];
    uint64_t n = 0;
    for (; size > LEAD && n < N_FRAMES_MAX; n++) {
        size_t length = 1 + le16_read(data) % FRAME_MAX;
        length = length < size - LEAD ? length : size - LEAD;
        memcpy(frame, data + LEAD, length);
        address(frame, length, data[2], is_tap);
        give_frame(frame, length);
        data += LEAD + length;
        size -= LEAD + length;
    }
    return n;
}

static void check_ring(void) {
    const struct ring_view *record;
    bool corrupt = false;
    uint64_t n_bytes = 0;
    while ((record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL) {
        bool is_stream = record->slot == STREAM;
        FUZZ_CHECK(record->slot >= STREAM && record->slot <= PIECES && record->n_packets > 0);
        FUZZ_CHECK(record->length > DATA_MESSAGE_MIN);
        const uint8_t *message = record->payload + (is_stream ? STREAM_LENGTH_PREFIX : 0);
        FUZZ_CHECK(message[0] == MESSAGE_DATA_AES);
        FUZZ_CHECK(session_receiver_index(message) == record->slot);
        n_bytes += record->length;
    }
    FUZZ_CHECK(!corrupt && n_bytes < SENDER_RING_BYTES);
}

static void empty_device(void) {
    static uint8_t frame[65536];
    for (int end = 0; end < 2; end++)
        while (recv(sender.device[end], frame, sizeof frame, MSG_DONTWAIT) > 0)
            ;
}

/* What the input has left in it, and in the rings of others. */
static void take_away(void) {
    struct loop *loop = sender.worker.loop;
    loop_capture(loop, NULL, 0, 0, 0);
    loop_clamp_mss(loop, 0);
    for (unsigned slot = STREAM; slot <= PIECES; slot++) {
        loop_set_rate_limit(loop, slot, 0, 0, 0);
        loop_forget_ips(loop, slot);
        loop_detach_link(loop, slot);
        if (sender.lane.macs != NULL)
            mac_table_forget(sender.lane.macs, slot);
    }
    if (sender.lane.macs != NULL) {
        mac_table_forget(sender.lane.macs, MAC_OWNER_LOCAL);
        ring_discard(sender.worker.hairpin, &sender.lane.ring_stats);
    }
    if (sender.lane.from_lane != NULL) {
        ring_discard(sender.worker.from_lane, &sender.lane.ring_stats);
        ring_discard(sender.lane.to_lane, &sender.lane.ring_stats);
    }
    sender_release();
    empty_device();
    sender.n_events = 0;
    if (copies != NULL)
        ring_discard(copies, &sender.lane.ring_stats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool is_sound;
    if (size < 2)
        return 0;
    bool is_tap = (data[0] & 1) != 0;
    set_up(data[0]);
    struct ring *other = is_tap ? sender.lane.hairpin : sender.lane.from_lane;
    size_t in_other = other != NULL ? data[1] * 16u % (size - 1) : 0;
    if (in_other > 0)
        fuzz_fill_ring(other, &sender.lane.ring_stats, data + 2, in_other, &is_sound);
    give_frames(data + 2 + in_other, size - 2 - in_other, is_tap);
    sender_run();
    check_ring();
    take_away();
    return 0;
}
