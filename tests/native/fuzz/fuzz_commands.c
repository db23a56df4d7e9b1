/* Any commands of a gateway, with any numbers, to a loop of any role: each does something, nothing,
 * or returns why not, and the loop still runs afterwards. Input: the role, then commands `which u8,
 * slot u16, number u32, address`. */
#define _GNU_SOURCE
#include "capture.h"
#include "keys.h"
#include "formats.h"
#include "lane_memory.h"
#include "loop/loop.h"
#include "fuzz.h"
#include "packet/byteorder.h"
#include "sockets.h"

enum { COMMAND = 1 + 2 + 4 + 32, N_COMMANDS_MAX = 64 };

static const struct {
    enum stats_role role;
    enum mode mode;
} roles[] = {{ROLE_tun_reader, MODE_TUN},  {ROLE_tun_reader, MODE_TAP},
             {ROLE_link_writer, MODE_TUN}, {ROLE_link_reader, MODE_TUN},
             {ROLE_link_reader, MODE_TAP}, {ROLE_tun_writer, MODE_TUN}};

enum { N_KINDS = sizeof roles / sizeof *roles, N_RUNS_MAX = 1000 };

/* A loop is large, and an input small: one is made for many. What an input has left in it is taken
 * away (undo). */
static struct kind {
    struct lane_memory lane;
    struct ring *ends[2]; /* the loop's ends of ring and hairpin */
    struct loop *loop;
    unsigned n_runs;
} kinds[N_KINDS];

static struct ring *copies; /* of a capture */
static struct key_region *region;
static struct key_area *area;
static struct key_name there; /* of a key in the area */
static int channel[2], device[2], stream[2], udp;

static void open_once(void) {
    if (copies != NULL)
        return;
    copies = ring_create(RING_SIZE_MIN, &(int){0});
    pair_open(channel, SOCK_SEQPACKET);
    region = key_region_create(0);
    const uint8_t key[32] = {1, 2, 3};
    FUZZ_CHECK(region != NULL && key_region_put(region, key, key, &there) == 0);
    area = key_area_attach(key_region_fd(region, ROLE_tun_reader));
    FUZZ_CHECK(area != NULL);
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    pair_open(stream, SOCK_STREAM | SOCK_NONBLOCK);
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    FUZZ_CHECK(copies != NULL && udp >= 0);
}

static void open_memory(struct kind *kind) {
    struct lane_memory *lane = &kind->lane;
    lane_memory_open(lane, RING_SIZE_MIN);
    lane_memory_add_switch(lane);
    kind->ends[0] = ring_attach(lane->ring_fd, RING_SIZE_MIN);
    kind->ends[1] = ring_attach(lane->hairpin_fd, RING_SIZE_MIN);
    FUZZ_CHECK(kind->ends[0] != NULL && kind->ends[1] != NULL);
}

static void make(struct kind *kind, size_t i) {
    const struct lane_memory *lane = &kind->lane;
    bool has_switch = roles[i].mode == MODE_TAP;
    kind->n_runs = 0;
    kind->loop = loop_new(&(struct loop_parts){.role = roles[i].role,
                                               .wire = WIRE_WIREGUARD,
                                               .mode = roles[i].mode,
                                               .ring = kind->ends[0],
                                               .stats = lane->stats,
                                               .peers = lane->peers,
                                               .sending = lane->sending,
                                               .marks = lane->marks,
                                               .device_fd = device[0],
                                               .channel_fd = channel[1],
                                               .wake_fd = lane->hairpin_wake_fd,
                                               .macs = has_switch ? lane->macs : NULL,
                                               .hairpin = has_switch ? kind->ends[1] : NULL,
                                               .hairpin_wake_fd = lane->hairpin_wake_fd});
    FUZZ_CHECK(kind->loop != NULL);
}

static struct kind *kind_of(uint8_t choice) {
    size_t i = choice % N_KINDS;
    if (kinds[i].ends[0] == NULL)
        open_memory(&kinds[i]);
    if (kinds[i].loop != NULL && kinds[i].n_runs++ == N_RUNS_MAX) {
        loop_free(kinds[i].loop);
        kinds[i].loop = NULL;
    }
    if (kinds[i].loop == NULL)
        make(&kinds[i], i);
    return &kinds[i];
}

static void attach(struct loop *loop, unsigned slot, uint32_t number) {
    struct link_format format = sealed_format(loop->mode, (number & 1) != 0);
    format.is_datagram = (number & 2) != 0;
    format.mtu = number >> 16;
    loop_attach_link(loop, slot, number, format.is_datagram ? -1 : stream[0], &format);
}

static void of_sessions(struct loop *loop, uint8_t which, unsigned slot, uint32_t number,
                        const uint8_t *bytes) {
    enum aead aead = (number & 1) != 0 ? AEAD_AES_256_GCM : AEAD_CHACHA20_POLY1305;
    struct key_name name = (number & 2) != 0 ? there : (struct key_name){number, bytes[0]};
    const struct counter_source source = {number >> 8, number};
    switch (which % 9) {
    case 8:
        loop_take_over_receiving_key(loop, slot, number);
        break;
    case 0:
        loop_set_sending_key(loop, area, &name, slot, aead, number, &source, UINT64_MAX);
        break;
    case 1:
        loop_forget_sending_key(loop, slot);
        break;
    case 2:
        loop_add_receiving_key(loop, area, &name, slot, aead, number, number % 1024, UINT64_MAX);
        break;
    case 3:
        loop_forget_receiving_keys(loop, slot);
        break;
    case 4:
        loop_send_keepalive(loop, slot);
        break;
    case 5:
        loop_send_control(loop, slot, bytes, number % 33);
        break;
    case 6:
        loop_send_message(loop, slot, bytes, number % 33);
        break;
    default:
        loop_set_gate_keys(loop, bytes, bytes);
    }
}

static void of_peers(struct loop *loop, uint8_t which, unsigned slot, uint32_t number,
                     const uint8_t *bytes) {
    struct udp_address endpoint = {.socket_index = number % 20, .family = (uint16_t)(number >> 16)};
    size_t address_length = (number & 1) != 0 ? 16 : (number & 2) != 0 ? 4 : number >> 24;
    memcpy(endpoint.address, bytes, sizeof endpoint.address);
    switch (which % 8) {
    case 0:
        loop_allow_ip(loop, slot, bytes, address_length, number >> 8 & 0xff);
        break;
    case 1:
        loop_forget_ip(loop, slot, bytes, address_length, number >> 8 & 0xff);
        break;
    case 2:
        loop_forget_ips(loop, slot);
        break;
    case 3:
        loop_set_rate_limit(loop, slot, number, number >> 8, (number & 1) != 0);
        break;
    case 4:
        loop_add_reach(loop, slot, bytes, address_length, number >> 8 & 0xff);
        break;
    case 5:
        loop_clear_reach(loop, slot);
        break;
    case 6:
        loop_set_endpoint(loop, slot, &endpoint, number);
        break;
    default:
        loop_await_reply(loop, slot, number);
    }
}

static void of_links(struct loop *loop, uint8_t which, unsigned slot, uint32_t number) {
    switch (which % 10) {
    case 0:
    case 1:
        attach(loop, slot, number);
        break;
    case 2:
        loop_detach_link(loop, slot);
        break;
    case 3:
        loop_add_socket(loop, slot % 32, udp, (number & 1) != 0);
        break;
    case 4:
        loop_remove_socket(loop, slot % 32);
        break;
    case 5:
        loop_block_link(loop, slot, (number & 1) != 0);
        break;
    case 6:
        loop_set_packet_max(loop, slot, number & 0xffff, number >> 16);
        break;
    case 7:
        loop_join_pieces(loop, slot, (int)(number & 3));
        break;
    case 8:
        loop_clamp_mss(loop, number);
        break;
    default:
        loop_capture(loop, (number & 1) != 0 ? copies : NULL, number >> 1, (int)slot - 1,
                     number >> 8);
    }
}

static void run(struct kind *kind) {
    char bell;
    enum loop_end end;
    FUZZ_CHECK(write(channel[0], "!", 1) == 1);
    ring_doorbell_producer(kind->ends[0]);
    ring_doorbell_consumer(kind->ends[0]);
    while ((end = loop_run(kind->loop)) == LOOP_EVENT)
        ;
    FUZZ_CHECK(end == LOOP_DOORBELL);
    loop_take_bell(kind->loop);
    FUZZ_CHECK(read(channel[1], &bell, 1) == 1);
}

static void undo_of_peer(struct loop *loop, unsigned slot) {
    loop_set_rate_limit(loop, slot, 0, 0, false);
    loop_clear_reach(loop, slot);
    loop_forget_sending_key(loop, slot);
    loop_forget_receiving_keys(loop, slot);
    loop_forget_ips(loop, slot);
    loop_detach_link(loop, slot);
}

static unsigned slot_of(const uint8_t *command) {
    unsigned slot = le16_read(command + 1);
    return (command[0] & 3) != 0 ? slot % 4 : slot; /* most have something to do with each other */
}

static void undo(struct kind *kind, const uint8_t *data, size_t size) {
    for (; size >= COMMAND; data += COMMAND, size -= COMMAND)
        undo_of_peer(kind->loop, slot_of(data));
    for (unsigned socket = 0; socket < N_SOCKETS; socket++)
        loop_remove_socket(kind->loop, socket);
    loop_capture(kind->loop, NULL, 0, 0, 0);
    loop_clamp_mss(kind->loop, 0);
    ring_discard(kind->lane.ring, &kind->lane.ring_stats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1 + COMMAND * N_COMMANDS_MAX)
        return 0;
    open_once();
    struct kind *kind = kind_of(data[0]);
    for (size_t at = 1; size - at >= COMMAND; at += COMMAND) {
        const uint8_t *command = data + at;
        unsigned slot = slot_of(command);
        switch (command[0] >> 6) {
        case 0:
            of_sessions(kind->loop, command[0] >> 2, slot, le32_read(command + 3), command + 7);
            break;
        case 1:
            of_peers(kind->loop, command[0] >> 2, slot, le32_read(command + 3), command + 7);
            break;
        default:
            of_links(kind->loop, command[0] >> 2, slot, le32_read(command + 3));
        }
    }
    run(kind);
    undo(kind, data + 1, size - 1);
    return 0;
}
