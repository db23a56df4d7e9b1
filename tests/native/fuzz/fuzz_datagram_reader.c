/* Any datagrams before the link-reader: what opens is a frame that the device can be given, what is
 * for the gateway fits its event, what is asked for a cookie gets one, and everything is counted.
 * Input: chunks of `what u8, half its length u8, bytes`, each a datagram.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/socket.h>

#include "packet/byteorder.h"
#include "fuzz.h"
#include "handshakes.h"
#include "inbound/message_in.h"
#include "sealing.h"

enum { RING_BYTES = 1 << 21, INPUT_MAX = 8192, INDEX = 0x20206006, SLOT = 1, OTHER_SLOT = 2 };

static struct ring *producer, *consumer;
static struct loop *loop;
static struct aead_key *sealing[N_AEADS];
static struct stats *stats;
static struct peer_table *peers;
static int channel[2], answers[2];  /* answers: the loop's socket, and who is answered */
static struct udp_address endpoint; /* of the next datagram: its port goes up */
static const uint8_t mac1_key[MAC_KEY_MAX] = {1, 2, 3}, cookie_key[AEAD_KEY_SIZE] = {4, 5, 6};

/* One session with both ciphers, and another peer's. Keys are costly: they are made once. */
static void add_keys(void) {
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, 1);
    for (int aead = 0; aead < N_AEADS; aead++) {
        sealing[aead] = aead_key_new((enum aead)aead, key);
        FUZZ_CHECK(loop_add_receiving_key(loop, SLOT, (enum aead)aead, key, INDEX, 0, UINT64_MAX) ==
                   0);
    }
    FUZZ_CHECK(loop_add_receiving_key(loop, OTHER_SLOT, AEAD_AES_256_GCM, key, INDEX + 1, 0,
                                      UINT64_MAX) == 0);
}

static void open_once(void) {
    const uint8_t net[4] = {10}, net6[16] = {0xfd};
    int ring_fd, stats_fd, peers_fd;
    if (loop != NULL)
        return;
    producer = ring_create(RING_BYTES, &ring_fd);
    consumer = ring_attach(ring_fd, RING_BYTES);
    stats = stats_create(&stats_fd);
    peers = peer_table_create(&peers_fd);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
    loop = loop_new(ROLE_link_reader, WIRE_WIREGUARD, MODE_TUN, producer, stats, peers, -1,
                    channel[1], -1);
    FUZZ_CHECK(loop != NULL && loop_set_gate_keys(loop, mac1_key, cookie_key) == 0);
    /* The endpoint is of no family, so what is sent to it goes where the socket is connected to. */
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, answers) == 0);
    link_reader_of(loop)->sockets[0].fd = answers[0];
    FUZZ_CHECK(loop_allow_ip(loop, SLOT, net, 4, 8) == 0);
    FUZZ_CHECK(loop_allow_ip(loop, SLOT, net6, 16, 8) == 0);
    add_keys();
}

/* As if nothing had come yet. */
static void begin(void) {
    memset(stats, 0, sizeof *stats);
    memset(&link_reader_of(loop)->handshakes.gate.proven, 0,
           sizeof link_reader_of(loop)->handshakes.gate.proven);
    memset(&link_reader_of(loop)->handshakes.gate.unproven, 0,
           sizeof link_reader_of(loop)->handshakes.gate.unproven);
    memset(&link_reader_of(loop)->handshakes.gate.replies, 0,
           sizeof link_reader_of(loop)->handshakes.gate.replies);
    memset(link_reader_of(loop)->handshakes.replies_full_at_ns, 0,
           sizeof link_reader_of(loop)->handshakes.replies_full_at_ns);
    loop_await_reply(loop, SLOT, INDEX + 2);
    link_reader_of(loop)->handshakes.gate.loaded_until_ns = 0;
    for (uint32_t index = INDEX; index <= INDEX + 1; index++) {
        struct receiving_key *key = key_table_find(link_reader_of(loop)->keys, index);
        key->replay = (struct replay){0};
        memset(key->control_replay, 0, sizeof key->control_replay);
        key->is_confirmed = false;
    }
}

static size_t seal(uint8_t *message, enum aead aead, uint32_t index, uint64_t counter,
                   const uint8_t *content, size_t length) {
    le32_write(message, aead == AEAD_AES_256_GCM ? MESSAGE_DATA_AES : MESSAGE_DATA_CHACHA);
    le32_write(message + 4, index);
    le64_write(message + 8, counter);
    memcpy(message + DATA_HEADER, content, length);
    return DATA_HEADER +
           (size_t)seal_in_place(sealing[aead], counter, message + DATA_HEADER, length);
}

static void check_event(const struct loop_event *event, const uint8_t *datagram, size_t length) {
    switch (event->kind) {
    case EVENT_UDP_HANDSHAKE:
        FUZZ_CHECK(event->length == length && length <= HANDSHAKE_BYTES_MAX);
        FUZZ_CHECK(memcmp(event->bytes, datagram, length) == 0);
        FUZZ_CHECK(udp_address_equal(&event->endpoint, &endpoint));
        break;
    case EVENT_CONTROL:
        FUZZ_CHECK(event->length > 0 && event->length <= EVENT_BYTES_MAX);
        FUZZ_CHECK(event->length + DATA_MESSAGE_MIN == length);
        FUZZ_CHECK(event->bytes[0] == MESSAGE_CONTROL);
        break;
    default:
        FUZZ_CHECK(event->kind == EVENT_CONFIRMED);
        FUZZ_CHECK(event->index == INDEX || event->index == INDEX + 1);
    }
}

static uint64_t n_cookies(void) {
    return stats_read_drop(stats, DROP_link_reader_cookie_sent);
}

/* `n_sent` cookies were sent, and none otherwise. */
static void check_answers(const uint8_t *datagram, size_t length, uint64_t n_sent) {
    uint8_t answer[2 * COOKIE_REPLY_LENGTH];
    for (; n_sent > 0; n_sent--) {
        FUZZ_CHECK(recv(answers[1], answer, sizeof answer, 0) == COOKIE_REPLY_LENGTH);
        FUZZ_CHECK(le32_read(answer) == MESSAGE_COOKIE && length > COOKIE_REPLY_LENGTH);
        FUZZ_CHECK(memcmp(answer + 4, datagram + 4, 4) == 0);
    }
    FUZZ_CHECK(recv(answers[1], answer, sizeof answer, 0) < 0);
}

static void pass(const uint8_t *datagram, size_t length) {
    uint8_t *exact = malloc(length > 0 ? length : 1); /* for ASan */
    const struct arrival arrival = {-1, &endpoint, clock_now_ns(), clock_boottime_ns()};
    endpoint.port++;
    memcpy(exact, datagram, length);
    uint64_t n_before = n_cookies();
    enum step step = message_forward(link_reader_of(loop), &arrival, exact, length);
    FUZZ_CHECK(step != STEP_RING_FULL);
    if (step == STEP_EVENT)
        check_event(loop_event(loop), exact, length);
    check_answers(exact, length, n_cookies() - n_before);
    free(exact);
}

/* One that bears our mac1. Bits of `what`: 8 under load; 16 with the cookie of who sends it. */
static void pass_handshake(uint8_t what, size_t length) {
    uint8_t message[HANDSHAKE_BYTES_MAX], cookie[COOKIE_LENGTH];
    unsigned type = 1 + (unsigned)length % 3;
    struct udp_address sender = endpoint;
    sender.port++; /* as it will be */
    length = handshake_make(message, type, (uint8_t)length, mac1_key);
    link_reader_of(loop)->handshakes.gate.loaded_until_ns = (what & 8) != 0 ? UINT64_MAX : 0;
    if ((what & 16) != 0 && type != MESSAGE_COOKIE) {
        FUZZ_CHECK(cookie_make(&link_reader_of(loop)->handshakes.gate.cookies, &sender,
                               clock_now_ns(), cookie) == 0);
        handshake_show(message, length, cookie);
    }
    uint64_t n_before = n_cookies();
    pass(message, length);
    bool is_asked = (what & 8) != 0 && (what & 16) == 0 && type != MESSAGE_COOKIE;
    FUZZ_CHECK(!is_asked || n_cookies() == n_before + 1);
}

/* Bits of `what`: 1 as it is; 2 the cipher; 4 one bit bent; 8 the same counter again; 16 the other
 * peer's session; all of 1, 2 and 4 a handshake message. */
static void pass_chunk(uint8_t what, uint64_t *counter, const uint8_t *bytes, size_t length) {
    uint8_t message[DATA_MESSAGE_MIN + 2 * UINT8_MAX];
    if ((what & 7) == 7) {
        pass_handshake(what, length);
    } else if ((what & 1) != 0) {
        pass(bytes, length);
    } else {
        enum aead aead = (what & 2) != 0 ? AEAD_AES_256_GCM : AEAD_CHACHA20_POLY1305;
        *counter += (what & 8) == 0;
        length = seal(message, aead, INDEX + ((what & 16) != 0), *counter, bytes, length);
        if ((what & 4) != 0)
            message[what % length] ^= (uint8_t)(1 << (what >> 5));
        pass(message, length);
    }
}

static uint64_t check_records(void) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(consumer), n_packets = 0;
    bool corrupt = false;
    for (; (record = ring_peek(consumer, &cursor, &corrupt)) != NULL;
         n_packets += record->n_packets) {
        const uint8_t *packet = record->payload + VNET_LENGTH;
        struct vnet vnet = vnet_read(record->payload);
        FUZZ_CHECK(record->length == VNET_LENGTH + record->n_bytes);
        FUZZ_CHECK(vnet_check(&vnet, packet, record->n_bytes, 0) == (int)record->n_packets);
        FUZZ_CHECK(packet[0] >> 4 == 4 ? packet[12] == 10 : packet[8] == 0xfd);
    }
    FUZZ_CHECK(!corrupt);
    ring_release(consumer, cursor, &stats->blocks[ROLE_tun_writer]);
    return n_packets;
}

static void pass_all(const uint8_t *data, size_t size) {
    uint64_t counter = 0;
    while (size >= 2) {
        size_t length = data[1] * 2u < size - 2 ? data[1] * 2u : size - 2;
        pass_chunk(data[0], &counter, data + 2, length);
        data += 2 + length;
        size -= 2 + length;
    }
    message_publish(link_reader_of(loop), 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > INPUT_MAX)
        return 0;
    open_once();
    begin();
    pass_all(data, size);
    uint64_t n_accounted = check_records();
    for (unsigned drop = 0; drop < N_DROPS; drop++)
        n_accounted += stats_read_drop(stats, drop);
    FUZZ_CHECK(stats_read_counter(stats, ROLE_link_reader, COUNTER_packets) == n_accounted);
    return 0;
}
