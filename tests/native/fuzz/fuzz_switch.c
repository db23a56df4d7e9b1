/* Two peers of a TAP device that have their keys and send any frames, under any addresses, before the
 * link-reader: each packet is for the device, for the hairpin, or dropped with its reason; none goes
 * back to its sender. Input: frames `peer u8, length u8, the two addresses' last bytes u8, rest`. */
#define _GNU_SOURCE
#include "fuzz_lane.h"
#include "loop/switching.h"
#include "worker/key_commands.h"
#include "packet/byteorder.h"
#include "packet/mac_key.h"
#include "inbound/message_in.h"
#include "sealing.h"

enum { LEAD = 4, INPUT_MAX = 2048, INDEX = 0x20206006, N_FROM = 2, CONTENT_MAX = 16 + 14 + 255 };

static struct loop *loop;
static struct aead_key *keys[N_FROM];
static uint64_t counters[N_FROM];
static struct ring *hairpin_end; /* the loop's */

static void open_once(void) {
    if (loop != NULL)
        return;
    fuzz_lane_open_once();
    lane_memory_add_switch(&lane);
    hairpin_end = ring_attach(lane.hairpin_fd, lane.ring_bytes);
    struct loop_parts parts = fuzz_parts(WIRE_WIREGUARD, MODE_TAP);
    parts.macs = lane.macs;
    parts.hairpin = hairpin_end;
    parts.hairpin_wake_fd = lane.hairpin_wake_fd;
    loop = loop_new(&parts);
    FUZZ_CHECK(loop != NULL);
    for (unsigned slot = 0; slot < N_FROM; slot++) {
        uint8_t key[AEAD_KEY_SIZE];
        sealing_key(key, slot);
        keys[slot] = aead_key_new(AEAD_AES_256_GCM, key);
        FUZZ_CHECK(key_add_for_receiving(loop, slot, AEAD_AES_256_GCM, key, INDEX + slot, 0,
                                         UINT64_MAX) == 0);
    }
}

static size_t seal_frame(const uint8_t *data, size_t n, uint8_t *message) {
    unsigned from = data[0] % N_FROM;
    uint8_t *content = message + DATA_HEADER, *ethernet = content + MESSAGE_TYPE_LENGTH;
    size_t length = MESSAGE_TYPE_LENGTH + ETHERNET_HEADER_SIZE + n;
    le32_write(message, MESSAGE_DATA_AES);
    le32_write(message + 4, INDEX + from);
    le64_write(message + 8, counters[from]);
    le32_write(content, MESSAGE_ETHERNET);
    memset(ethernet, 0, ETHERNET_HEADER_SIZE);
    ethernet[0] = (data[0] & 2) != 0 ? 1 : 2; /* a group, or one host */
    ethernet[5] = data[2];
    ethernet[6] = (data[0] & 4) != 0 ? 1 : 2;
    ethernet[11] = data[3];
    if ((data[0] & 8) != 0 && n >= 4)
        be16_write(ethernet + 12, 0x8100); /* a VLAN tag follows */
    memcpy(ethernet + ETHERNET_HEADER_SIZE, data + LEAD, n);
    return DATA_HEADER + (size_t)seal_in_place(keys[from], counters[from]++, content, length);
}

static uint64_t empty_hairpin(void) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(lane.hairpin), n = 0;
    bool corrupt = false;
    for (; (record = ring_peek(lane.hairpin, &cursor, &corrupt)) != NULL; n++) {
        FUZZ_CHECK(record->slot < N_FROM && record->link_id != record->slot);
        FUZZ_CHECK(record->length >= VNET_LENGTH + ETHERNET_HEADER_SIZE);
    }
    FUZZ_CHECK(!corrupt);
    ring_release(lane.hairpin, cursor, &lane.ring_stats);
    return n;
}

static uint64_t empty_ring(void) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(lane.ring), n = 0;
    bool corrupt = false;
    for (; (record = ring_peek(lane.ring, &cursor, &corrupt)) != NULL; n += record->n_packets)
        FUZZ_CHECK(record->length == VNET_LENGTH + record->n_bytes);
    FUZZ_CHECK(!corrupt);
    ring_release(lane.ring, cursor, &lane.stats->parts[ROLE_tun_writer].block);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    if (size > INPUT_MAX)
        return 0;
    open_once();
    memset(lane.stats, 0, sizeof *lane.stats);
    while (size >= LEAD) {
        uint8_t message[DATA_MESSAGE_MIN + CONTENT_MAX];
        size_t n = data[1] < size - LEAD ? data[1] : size - LEAD;
        size_t length = seal_frame(data, n, message);
        enum step step = message_forward(link_reader_of(loop), &arrival, message, length);
        FUZZ_CHECK(step != STEP_RING_FULL);
        data += LEAD + n;
        size -= LEAD + n;
    }
    message_publish(link_reader_of(loop), 1);
    uint64_t n_device = empty_ring();
    empty_hairpin();
    FUZZ_CHECK(stats_read_counter(lane.stats, ROLE_link_reader, COUNTER_packets) ==
               n_device + stats_read_counter(lane.stats, ROLE_link_reader, COUNTER_switched) +
                   lane_dropped_in_all(&lane));
    return 0;
}
