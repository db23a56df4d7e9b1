/* seeds DIRECTORY FUZZER...: a corpus for each fuzz target to start from, in DIRECTORY/FUZZER.
 *
 * Without them a fuzzer spends its seconds on finding out what an IP header is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "formats.h"
#include "frames.h"
#include "packet/pieces.h"
#include "shared/ring.h"

enum { N_FORMATS = 8 /* the choices of fuzz_format */, FRAME_BYTES = 300 };

struct seed {
    uint8_t bytes[4096];
    size_t length;
};

static struct frame frame;

static void make_directory(const char *path) {
    CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
}

static void seed_write(const struct seed *seed, const char *directory, const char *fuzzer, int i) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, fuzzer);
    make_directory(path);
    snprintf(path, sizeof path, "%s/%s/seed-%03d", directory, fuzzer, i);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQUAL(fwrite(seed->bytes, 1, seed->length, file), seed->length);
    CHECK_EQUAL(fclose(file), 0);
}

static void append(struct seed *seed, const void *bytes, size_t length) {
    CHECK(seed->length + length <= sizeof seed->bytes);
    memcpy(seed->bytes + seed->length, bytes, length);
    seed->length += length;
}

/* The frame as a message, with its length prefix or without; false when the format cannot carry
 * it. */
static bool append_message(struct seed *seed, const struct link_format *format, bool prefixed) {
    uint8_t slot[MESSAGE_HEADROOM + VNET_LENGTH + FRAME_BYTES];
    struct message_outbound outbound;
    memcpy(slot + MESSAGE_HEADROOM, frame.bytes, frame.length);
    if (message_encapsulate(format, slot + MESSAGE_HEADROOM, FRAME_BYTES, &outbound) != MESSAGE_OK)
        return false;
    if (prefixed)
        message_prefix(&outbound);
    append(seed, outbound.start, outbound.length);
    return true;
}

static void append_record(struct seed *seed) {
    struct ring_record record = {.space = 384, .offset = sizeof record, .length = 300};
    uint64_t indices[] = {384, 0};
    append(seed, indices, sizeof indices);
    append(seed, &record, sizeof record);
    append(seed, frame.bytes, frame.length);
}

/* For the sealed wire: the message under either cipher, bent, and again; then its bare bytes. */
static void append_chunks(struct seed *seed, const struct link_format *format) {
    const uint8_t kinds[] = {0, 2, 4 | 8, 8, 1};
    uint8_t *packet = frame.bytes + VNET_LENGTH;
    if (format->mode == MODE_TUN && packet[0] == 0x45)
        packet[12] = 10; /* addresses that the peer may use */
    else if (format->mode == MODE_TUN)
        packet[8] = 0xfd;
    for (size_t i = 0; i < sizeof kinds; i++) {
        struct seed message = {.length = 0};
        append_message(&message, format, false);
        if (message.length == 0)
            continue;
        uint8_t chunk[2] = {kinds[i], (uint8_t)(message.length / 2)};
        append(seed, chunk, sizeof chunk);
        append(seed, message.bytes, message.length);
    }
}

/* Behind those a keepalive, a control message, one of each kind of handshake, another peer's; and
 * handshakes under load, without a cookie and with one. */
static void append_datagrams(struct seed *seed, const struct link_format *format) {
    const uint8_t rest[] = {
        0, 0, 2, 2, MESSAGE_CONTROL, 0, 0,    0, 7,     0, 7,          1, 0,     0, 7, 2,
        0, 0, 0, 0, 2 | 16,          1, 0x45, 0, 7 | 8, 0, 7 | 8 | 16, 0, 7 | 8, 1, 0, 0};
    append_chunks(seed, format);
    append(seed, rest, sizeof rest);
}

/* A packet, and seven that continue it; every third time the last of them is shorter. */
static void append_flow(struct seed *seed, uint8_t choice) {
    enum { RIGHT = 1 | 2, CONTINUES = 4, PAYLOAD = 100 };
    uint8_t *packet = frame.bytes + VNET_LENGTH;
    size_t transport = packet[0] == 0x45 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
    bool is_udp = packet[transport == IPV6_HEADER_SIZE ? 6 : 9] == 17;
    if (transport == IPV4_HEADER_SIZE) {
        packet[6] = (choice & 2) != 0 ? 0x40 : 0; /* DF or not; no fragment */
        packet[7] = 0;
    }
    if (!is_udp) {
        packet[transport + 12] = 6 << 4;
        packet[transport + 13] = TCP_ACK;
    }
    for (unsigned i = 0; i < 8; i++) {
        size_t length = choice % 3 == 0 && i == 7 ? PAYLOAD / 2 : PAYLOAD;
        if (i == 0)
            length += transport + (is_udp ? 8 : 24);
        uint8_t chunk[3] = {i == 0 ? RIGHT : RIGHT | CONTINUES, 0, (uint8_t)length};
        append(seed, chunk, sizeof chunk);
        append(seed, packet, length);
    }
}

/* As fuzz_ring.h reads it: as it should be, and with a field bent. */
static void append_ring(struct seed *seed, const void *bytes, size_t length) {
    const uint8_t bends[] = {0, 0, 1 | 2 << 2, 2};
    for (unsigned i = 0; i < sizeof bends; i++) {
        uint8_t lead[8] = {bends[i], (uint8_t)(seed->bytes[0] + i), (uint8_t)length,
                           (uint8_t)(length >> 8), 100};
        append(seed, lead, sizeof lead);
        append(seed, bytes, length);
    }
}

static void append_device_frames(struct seed *seed) {
    const uint8_t none_in_the_hairpin = 0;
    append(seed, &none_in_the_hairpin, 1);
    for (uint8_t to = 0; to < 4; to++) {
        uint8_t lead[3] = {(uint8_t)(frame.length - 1), (uint8_t)((frame.length - 1) >> 8), to};
        append(seed, lead, sizeof lead);
        append(seed, frame.bytes, frame.length);
    }
}

/* A SYN that asks for segments of 1460 bytes, behind the MTU and that it has a checksum. */
static void append_syn(struct seed *seed, uint8_t choice) {
    uint8_t *packet = frame.bytes + VNET_LENGTH;
    size_t tcp = packet[0] == 0x45 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
    const uint8_t lead[] = {0xe8, 3, choice}, options[] = {2, 4, 5, 180};
    packet[packet[0] == 0x45 ? 9 : 6] = 6;
    packet[tcp + 12] = 6 << 4;
    packet[tcp + 13] = 2;
    memcpy(packet + tcp + 20, options, sizeof options);
    append(seed, lead, sizeof lead);
    append(seed, packet, tcp + 24);
}

/* A super-packet in three pieces, the last filled up or not, and a frame in two. */
static void append_pieces(struct seed *seed, uint8_t choice) {
    for (unsigned i = 0; i < 3 + 2; i++) {
        bool is_super = i < 3;
        size_t slice = is_super ? 120 : FRAME_BYTES / 2, n = PIECE_HEADER + slice;
        n -= is_super && i == 2 && choice % 2 == 0 ? 360 - (VNET_LENGTH + FRAME_BYTES) : 0;
        uint8_t lead[5] = {(uint8_t)n, (uint8_t)(n >> 8), 0, 1, choice & 1};
        uint8_t piece[PIECE_HEADER + 200] = {0};
        piece_write_header(piece, is_super ? i : i - 3, 0,
                           is_super ? VNET_LENGTH + FRAME_BYTES : FRAME_BYTES,
                           is_super ? slice : 0);
        append(seed, lead, sizeof lead);
        append(seed, piece, n);
    }
}

static struct seed seed_for(const char *fuzzer, uint8_t choice) {
    struct seed seed = {.bytes = {choice}, .length = 1};
    bool super = (choice & 2) == 0;
    enum mode mode = (choice & 1) != 0 ? MODE_TAP : MODE_TUN;
    struct link_format format = super ? plain_format(mode, true) : simpletun_format(mode);
    if (strcmp(fuzzer, "fuzz_message_decapsulate") == 0) {
        append_message(&seed, &format, false);
    } else if (strcmp(fuzzer, "fuzz_link_reader") == 0) {
        append_message(&seed, &format, true);
        append_message(&seed, &format, true);
    } else if (strcmp(fuzzer, "fuzz_sealed_reader") == 0) {
        append_chunks(&seed, &format);
    } else if (strcmp(fuzzer, "fuzz_datagram_reader") == 0) {
        seed.length = 0;
        append_datagrams(&seed, &format);
    } else if (strcmp(fuzzer, "fuzz_gro") == 0) {
        seed.length = 0;
        append_flow(&seed, choice);
    } else if (strcmp(fuzzer, "fuzz_mss") == 0) {
        seed.length = 0;
        append_syn(&seed, choice);
    } else if (strcmp(fuzzer, "fuzz_commands") == 0) {
        append(&seed, frame.bytes, frame.length);
    } else if (strcmp(fuzzer, "fuzz_tun_reader") == 0) {
        seed.bytes[0] |= (choice & 4) != 0 ? 32 : 0;
        append_device_frames(&seed);
    } else if (strcmp(fuzzer, "fuzz_tun_writer") == 0) {
        append_ring(&seed, frame.bytes, frame.length);
    } else if (strcmp(fuzzer, "fuzz_link_writer") == 0) {
        append_ring(&seed, frame.bytes + VNET_LENGTH, frame.length - VNET_LENGTH);
    } else if (strcmp(fuzzer, "fuzz_ecn") == 0) {
        append(&seed, frame.bytes + VNET_LENGTH, frame.length - VNET_LENGTH);
    } else if (strcmp(fuzzer, "fuzz_pieces") == 0) {
        seed.length = 0;
        append_pieces(&seed, choice);
    } else if (strcmp(fuzzer, "fuzz_ring_peek") == 0 || strcmp(fuzzer, "fuzz_capture_read") == 0) {
        seed.length = 0;
        append_record(&seed);
    } else {
        append(&seed, frame.bytes, frame.length);
    }
    return seed;
}

int main(int argc, char **argv) {
    struct random random = {99};
    CHECK(argc > 2);
    make_directory(argv[1]);
    for (int fuzzer = 2; fuzzer < argc; fuzzer++) {
        for (int i = 0; i < N_FORMATS * N_FRAME_KINDS; i++) {
            enum mode mode = (i & 1) != 0 ? MODE_TAP : MODE_TUN;
            frame_make(&frame, &random, mode, (enum frame_kind)(i / N_FORMATS), FRAME_BYTES);
            struct seed seed = seed_for(argv[fuzzer], (uint8_t)(i % N_FORMATS));
            seed_write(&seed, argv[1], argv[fuzzer], i);
        }
    }
    return EXIT_SUCCESS;
}
