/* A peer that has the key and still breaks every rule: any content is sealed for it, or its bytes
 * go into the stream as they are. Input: the format and its terms, then chunks of `what u8, half its length u8,
 * bytes`.
 */
#define _GNU_SOURCE
#include "packet/byteorder.h"
#include "fuzz_lane.h"
#include "worker/key_commands.h"
#include "sealing.h"

enum { STREAM_MAX = 128 * 1024, INPUT_MAX = 8192, INDEX = 0x20206006 };

static uint8_t stream_bytes[STREAM_MAX];
static size_t stream_length;

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
    uint8_t key[AEAD_KEY_SIZE];
    struct loop *loop = fuzz_loop_of(WIRE_WIREGUARD, format->mode);
    sealing_key(key, 1);
    FUZZ_CHECK(loop_attach_link(loop, 0, 0, fd, format) == 0);
    FUZZ_CHECK(key_add_for_receiving(loop, 0, AEAD_CHACHA20_POLY1305, key, INDEX, 0, UINT64_MAX) ==
               0);
    FUZZ_CHECK(key_add_for_receiving(loop, 0, AEAD_AES_256_GCM, key, INDEX + 1, 0, UINT64_MAX) ==
               0);
    fuzz_allow_ten(loop, 0);
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
        else if (event->kind == EVENT_CONTROL)
            FUZZ_CHECK(event->length <= EVENT_BYTES_MAX);
        else
            FUZZ_CHECK(event->kind == EVENT_STREAM_HANDSHAKE &&
                       event->length <= HANDSHAKE_BYTES_MAX);
    }
}

/* Has the peer a rate limit, super-packets are cut and wait; without it they go on. */
static void release_held(struct loop *loop) {
    char bell;
    FUZZ_CHECK(loop_set_rate_limit(loop, 0, 0, 0, false) == 0);
    FUZZ_CHECK(write(channel[0], "!", 1) == 1);
    enum loop_end end = loop_run(loop);
    while (end == LOOP_EVENT)
        end = loop_run(loop);
    FUZZ_CHECK(end == LOOP_DOORBELL);
    FUZZ_CHECK(read(channel[1], &bell, 1) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int stream[2];
    if (size < 1 || size > INPUT_MAX)
        return 0;
    fuzz_lane_open_once();
    build_stream(data + 1, size - 1);
    struct link_format format =
        sealed_format((data[0] & 1) != 0 ? MODE_TAP : MODE_TUN, (data[0] & 2) == 0);
    memset(lane.stats, 0, sizeof *lane.stats);
    pair_open(stream, SOCK_STREAM);
    set_send_buffer(stream[1], 4 * STREAM_MAX);
    FUZZ_CHECK(write(stream[1], stream_bytes, stream_length) == (ssize_t)stream_length);
    close(stream[1]);
    struct loop *loop = open_loop(&format, stream[0]);
    if ((data[0] & 4) != 0)
        FUZZ_CHECK(loop_set_rate_limit(loop, 0, 1000, 0, false) == 0);
    if ((data[0] & 8) != 0 && format.mode == MODE_TUN)
        FUZZ_CHECK(loop_add_reach(loop, 0, (const uint8_t[4]){10, 128}, 4, 9) == 0);
    run_to_the_end(loop);
    release_held(loop);
    loop_forget_receiving_keys(loop, 0);
    loop_forget_ips(loop, 0);
    loop_clear_reach(loop, 0);
    loop_detach_link(loop, 0);
    close(stream[0]);
    fuzz_check_lane(format.mode, format.mode == MODE_TUN);
    return 0;
}
