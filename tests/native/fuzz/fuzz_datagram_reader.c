/* Any datagrams before the link-reader: what opens is a frame that the device can be given, what is
 * for the gateway fits its event, what is asked for a cookie gets one, and everything is counted.
 * Input: chunks of `what u8, half its length u8, bytes`, each a datagram.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "packet/byteorder.h"
#include "fuzz_lane.h"
#include "worker/key_commands.h"
#include "handshakes.h"
#include "inbound/message_in.h"
#include "sealing.h"

enum { INPUT_MAX = 8192, INDEX = 0x20206006, SLOT = 1, OTHER_SLOT = 2 };

static struct loop *loop;
static struct aead_key *sealing[N_AEADS];
static int answers[2];              /* the loop's socket, and the one that is answered */
static struct udp_address endpoint; /* of the next datagram: its port goes up */
static const uint8_t mac1_key[MAC_KEY_MAX] = {1, 2, 3}, cookie_key[AEAD_KEY_SIZE] = {4, 5, 6};

/* One session with both ciphers, and another peer's. Keys are costly: they are made once. */
static void add_keys(void) {
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, 1);
    for (int aead = 0; aead < N_AEADS; aead++) {
        sealing[aead] = aead_key_new((enum aead)aead, key);
        FUZZ_CHECK(key_add_for_receiving(loop, SLOT, (enum aead)aead, key, INDEX, 0, UINT64_MAX) ==
                   0);
    }
    FUZZ_CHECK(key_add_for_receiving(loop, OTHER_SLOT, AEAD_AES_256_GCM, key, INDEX + 1, 0,
                                     UINT64_MAX) == 0);
}

static void open_once(void) {
    if (loop != NULL)
        return;
    fuzz_lane_open_once();
    loop = fuzz_loop_new(WIRE_WIREGUARD, MODE_TUN);
    FUZZ_CHECK(loop_set_gate_keys(loop, mac1_key, cookie_key) == 0);
    /* The endpoint is of no family, so what is sent to it goes where the socket is connected to. */
    pair_open(answers, SOCK_DGRAM | SOCK_NONBLOCK);
    link_reader_of(loop)->sockets[0].fd = answers[0];
    fuzz_allow_ten(loop, SLOT);
    add_keys();
}

/* As if nothing had come yet. */
static void begin(void) {
    link_reader_forget_peer(link_reader_of(loop), SLOT); /* its pieces */
    link_reader_forget_peer(link_reader_of(loop), OTHER_SLOT);
    memset(lane.stats, 0, sizeof *lane.stats);
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
        key->is_confirmed = key->is_reported = false;
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
    return stats_read_drop(lane.stats, DROP_link_reader_cookie_sent);
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
    const struct arrival arrival = {-1, &endpoint, clock_now_ns(), clock_boottime_ns(),
                                    ECN_NOT_ECT};
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

/* One that bears our mac1. Bits of `what`: 8 under load; 16 with its sender's cookie. */
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
    fuzz_check_lane(MODE_TUN, true);
    return 0;
}
