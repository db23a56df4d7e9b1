/* Tun-readers and link-readers in processes of their own, killed at any moment, wherever they are
 * between a counter and the ring, and replaced by successors with the same keys. Whatever comes of
 * it: no counter seals two messages, and no message is passed on twice, however often it is sent
 * again. The test is the gateway, the network, the device and the writers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "killed.h"
#include "packet/byteorder.h"
#include "random.h"
#include "sealing.h"
#include "sockets.h"
#include "worker/key_commands.h"
#include "worker_thread.h"

enum {
    RING_BYTES = 1 << 20,
    SLOT = 7,
    KEY = 1,
    INDEX = 0x80000001,
    US = 0x0a000001,
    THEM = 0x0a000007,
    PACKET = 64,
    NUMBER_AT = 40, /* of a packet, in its payload */
    N_KILLS = 40,
    N_KILLS_SOAK = 2000, /* with FASTUN_SOAK */
    LIFE_US_MAX = 6000,
    RECENT = 400, /* messages that are sent again */
    NUMBERS_MAX = 1 << 22,
};

static int n_kills = N_KILLS;
static struct lane_memory lane;
static uint64_t cursor;
static uint8_t n_seen[NUMBERS_MAX]; /* by counter */
static uint64_t n_records;

static void see(uint64_t counter) {
    CHECK(counter < NUMBERS_MAX);
    CHECK_EQUAL(n_seen[counter], 0);
    n_seen[counter] = 1;
}

static void begin(void) {
    lane_memory_open(&lane, RING_BYTES);
    cursor = ring_first(lane.ring);
    memset(n_seen, 0, sizeof n_seen);
    n_records = 0;
}

/* What has been published. */
static void take_records(void (*take)(const struct ring_view *record)) {
    bool corrupt = false;
    const struct ring_view *record;
    lane.ring->peer = cursor;
    while ((record = ring_peek(lane.ring, &cursor, &corrupt)) != NULL) {
        CHECK(!corrupt);
        take(record);
        n_records++;
    }
    ring_release(lane.ring, cursor, &lane.ring_stats);
}

/* -- the workers ------------------------------------------------------------------------------- */

static void kill_producer(pid_t pid) {
    killed_reap(pid);
    ring_producer_is_dead(lane.ring);
}

static void loop_for_ever(struct loop *loop) {
    while (loop_run(loop) == LOOP_EVENT)
        ;
}

/* -- sending ----------------------------------------------------------------------------------- */

static int device[2];

static void be_tun_reader(int n_before) {
    static struct worker_thread worker;
    const struct link_format format = {.wire = WIRE_WIREGUARD,
                                       .mode = MODE_TUN,
                                       .message_max = SEALED_CONTENT_MAX,
                                       .is_datagram = 1};
    const struct counter_source source = {1, 0};
    uint8_t key[AEAD_KEY_SIZE];
    (void)n_before;
    sealing_key(key, KEY);
    worker_open(&worker, ROLE_tun_reader, WIRE_WIREGUARD, MODE_TUN, &lane, device[0]);
    CHECK_EQUAL(loop_attach_link(worker.loop, SLOT, 1, -1, &format), 0);
    CHECK_EQUAL(loop_allow_ip(worker.loop, SLOT, (const uint8_t[4]){10}, 4, 8), 0);
    CHECK_EQUAL(
        key_use_for_sending(worker.loop, SLOT, AEAD_AES_256_GCM, key, INDEX, &source, UINT64_MAX),
        0);
    loop_for_ever(worker.loop);
}

static void take_sealed(const struct ring_view *record) {
    CHECK(session_is_data(record->payload, record->length));
    CHECK_EQUAL(session_receiver_index(record->payload), INDEX);
    see(le64_read(record->payload + 8));
}

static void give_packets(unsigned n) {
    static uint8_t frame[VNET_LENGTH + PACKET];
    ipv4_make(frame + VNET_LENGTH, PACKET, US, THEM);
    while (n-- > 0)
        if (write(device[1], frame, sizeof frame) < 0)
            return; /* the device's queue is full */
}

static void no_counter_seals_two_messages_whenever_the_tun_reader_is_killed(void) {
    struct random random = {7};
    begin();
    pair_open(device, SOCK_SEQPACKET | SOCK_NONBLOCK);
    uint64_t n_gateway = 0;
    for (int i = 0; i < n_kills; i++) {
        pid_t pid = killed_spawn(be_tun_reader, i);
        uint64_t before = n_records;
        size_t life = 1 + random_below(&random, LIFE_US_MAX / 50);
        for (size_t t = 0; t < life || n_records == before; t++) {
            give_packets(1 + (unsigned)random_below(&random, 40));
            usleep(50);
            if (random_below(&random, 4) == 0) {
                see(sending_counters_draw(lane.sending, SLOT, 1));
                n_gateway++;
            }
            take_records(take_sealed);
        }
        kill_producer(pid);
        take_records(take_sealed);
    }
    uint64_t drawn = sending_counters_drawn(lane.sending, SLOT, 1), n_used = n_records + n_gateway;
    CHECK(n_used <= drawn);
    CHECK(drawn - n_used <= 64 * (uint64_t)n_kills); /* a burst's, at each kill */
    printf("        %d kills: %llu counters drawn, %llu of them used by none\n", n_kills,
           (unsigned long long)drawn, (unsigned long long)(drawn - n_used));
    pair_close(device);
    lane_memory_close(&lane);
}

/* -- receiving --------------------------------------------------------------------------------- */

static uint64_t n_messages = 1 << 16;
static uint8_t (*messages)[DATA_MESSAGE_MIN + PACKET]; /* by counter */
static int udp_fd, network_fd;

static void open_sockets(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, size = 4 << 20;
    udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    network_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK_EQUAL(bind(udp_fd, (struct sockaddr *)&address, length), 0);
    CHECK_EQUAL(getsockname(udp_fd, (struct sockaddr *)&address, &length), 0);
    CHECK_EQUAL(setsockopt(udp_fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on), 0);
    setsockopt(udp_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size); /* with the right to */
    CHECK_EQUAL(connect(network_fd, (struct sockaddr *)&address, length), 0);
}

static void be_link_reader(int n_before) {
    static struct worker_thread worker;
    static const uint8_t zeros[AEAD_KEY_SIZE];
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, KEY);
    worker_open(&worker, ROLE_link_reader, WIRE_WIREGUARD, MODE_TUN, &lane, -1);
    CHECK_EQUAL(loop_add_socket(worker.loop, 0, udp_fd, false), 0);
    CHECK_EQUAL(loop_set_gate_keys(worker.loop, zeros, zeros), 0);
    CHECK_EQUAL(loop_allow_ip(worker.loop, SLOT, (const uint8_t[4]){10}, 4, 8), 0);
    if (n_before > 0)
        CHECK_EQUAL(loop_take_over_receiving_key(worker.loop, SLOT, INDEX), 0);
    CHECK_EQUAL(
        key_add_for_receiving(worker.loop, SLOT, AEAD_AES_256_GCM, key, INDEX, 0, UINT64_MAX), 0);
    loop_for_ever(worker.loop);
}

static void take_opened(const struct ring_view *record) {
    CHECK_EQUAL(record->length, VNET_LENGTH + PACKET);
    see(le64_read(record->payload + VNET_LENGTH + NUMBER_AT));
}

/* In a process of its own: what it has of keys would be in the way of those that are forked later. */
static void seal_all(int unused) {
    uint8_t key[AEAD_KEY_SIZE];
    (void)unused;
    sealing_key(key, KEY);
    struct aead_key *sealing = aead_key_new(AEAD_AES_256_GCM, key);
    CHECK(sealing != NULL);
    for (uint64_t counter = 0; counter < n_messages; counter++) {
        uint8_t *message = messages[counter], *packet = message + DATA_HEADER;
        le32_write(message, MESSAGE_DATA_AES);
        le32_write(message + 4, INDEX);
        le64_write(message + 8, counter);
        ipv4_make(packet, PACKET, THEM, US);
        le64_write(packet + NUMBER_AT, counter);
        CHECK_EQUAL(seal_in_place(sealing, counter, packet, PACKET), PACKET + DATA_TAG);
    }
    _exit(EXIT_SUCCESS);
}

static void make_messages(void) {
    int status;
    messages = mmap(NULL, n_messages * sizeof *messages, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(messages != MAP_FAILED);
    pid_t pid = killed_spawn(seal_all, 0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
}

static void send_message(uint64_t counter) {
    send(network_fd, messages[counter], sizeof messages[counter], 0);
}

static void send_again(uint64_t next, uint64_t n) {
    for (uint64_t counter = next > n ? next - n : 0; counter < next; counter++)
        send_message(counter);
}

static void nothing_is_passed_on_twice_whenever_the_link_reader_is_killed(void) {
    struct random random = {9};
    uint64_t next = 0;
    begin();
    open_sockets();
    make_messages();
    for (int i = 0; i < n_kills; i++) {
        pid_t pid = killed_spawn(be_link_reader, i);
        uint64_t before = n_records;
        size_t life = 1 + random_below(&random, LIFE_US_MAX / 50);
        for (size_t t = 0; t < life || (n_records == before && next < n_messages); t++) {
            for (size_t n = 1 + random_below(&random, 20); n > 0 && next < n_messages; n--)
                send_message(next++);
            send_again(next, random_below(&random, 8));
            usleep(50);
            take_records(take_opened);
        }
        kill_producer(pid);
        take_records(take_opened);
        send_again(next, RECENT); /* of before the kill */
    }
    /* What was not passed on was in the hands of those killed, or found the socket full. */
    printf("        %d kills: %llu of %llu passed on\n", n_kills, (unsigned long long)n_records,
           (unsigned long long)next);
    munmap(messages, n_messages * sizeof *messages);
    close(udp_fd);
    close(network_fd);
    lane_memory_close(&lane);
}

int main(void) {
    if (getenv("FASTUN_SOAK") != NULL)
        n_kills = N_KILLS_SOAK, n_messages = 1 << 21;
    RUN(no_counter_seals_two_messages_whenever_the_tun_reader_is_killed);
    RUN(nothing_is_passed_on_twice_whenever_the_link_reader_is_killed);
    return EXIT_SUCCESS;
}
