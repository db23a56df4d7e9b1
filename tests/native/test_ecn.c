/* ecn: every inner codepoint with every outer one, in IPv4 and IPv6, bare and behind VLAN tags,
 * beside RFC 6040's table written out. */
#include "packet/ecn.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "packet/byteorder.h"
#include "random.h"

enum { LOST = -1, N_CODEPOINTS = 4, N_ROUNDS = 2000 };

/* Figure 4, with the columns in the order of the values. */
static const int combined[N_CODEPOINTS][N_CODEPOINTS] = {
    /* outer       Not-ECT      ECT(1)       ECT(0)       CE */
    [ECN_NOT_ECT] = {ECN_NOT_ECT, ECN_NOT_ECT, ECN_NOT_ECT, LOST},
    [ECN_ECT_1] = {ECN_ECT_1, ECN_ECT_1, ECN_ECT_1, ECN_CE},
    [ECN_ECT_0] = {ECN_ECT_0, ECN_ECT_1, ECN_ECT_0, ECN_CE},
    [ECN_CE] = {ECN_CE, ECN_CE, ECN_CE, ECN_CE},
};

struct made {
    uint8_t *bytes; /* of this length on the heap, so that nothing behind it is touched unseen */
    size_t length;
    size_t ip;
    enum mode mode;
};

/* By the book: all words but the checksum's, in network order. */
static uint16_t naive_checksum(const uint8_t *header, size_t length) {
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i += 2)
        if (i != 10)
            sum += be16_read(header + i);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static size_t header_of(const struct made *frame) {
    return ip_version(frame->bytes + frame->ip) == 4 ? (frame->bytes[frame->ip] & 15u) * 4u : 40;
}

static unsigned naive_class(const struct made *frame) {
    const uint8_t *packet = frame->bytes + frame->ip;
    return ip_version(packet) == 4 ? packet[1] : (packet[0] & 15u) << 4 | packet[1] >> 4;
}

static void naive_set_class(struct made *frame, unsigned class) {
    uint8_t *packet = frame->bytes + frame->ip;
    if (ip_version(packet) == 4) {
        packet[1] = (uint8_t) class;
        be16_write(packet + 10, naive_checksum(packet, header_of(frame)));
        return;
    }
    packet[0] = (uint8_t)(0x60 | class >> 4);
    packet[1] = (uint8_t)((packet[1] & 15u) | (class & 15u) << 4);
}

/* A shortest frame of noise: `n_tags` -1 is a bare packet. */
static struct made make(struct random *random, unsigned version, int n_tags, unsigned class) {
    size_t header = version == 4 ? 20 + 4 * random_below(random, 11) : 40;
    size_t ip = n_tags < 0 ? 0 : 14 + 4 * (size_t)n_tags;
    struct made frame = {malloc(ip + header), ip + header, ip, n_tags < 0 ? MODE_TUN : MODE_TAP};
    for (size_t i = 0; i < frame.length; i++)
        frame.bytes[i] = (uint8_t)random_below(random, 256);
    for (int tag = 0; tag < n_tags; tag++)
        be16_write(frame.bytes + 12 + 4 * tag, tag == 0 && n_tags == 2 ? 0x88a8 : 0x8100);
    if (n_tags >= 0)
        be16_write(frame.bytes + ip - 2, version == 4 ? 0x0800 : 0x86dd);
    frame.bytes[ip] = (uint8_t)(version == 4 ? 0x40 | header / 4 : 0x60);
    naive_set_class(&frame, class);
    return frame;
}

/* What came of the frame is what the model says, and nothing else has changed. */
static void check_is(const struct made *frame, struct made *before, unsigned class) {
    naive_set_class(before, class);
    CHECK_EQUAL(naive_class(frame), class);
    CHECK_EQUAL(memcmp(frame->bytes, before->bytes, frame->length), 0);
}

static void try(struct random *random, unsigned version, int n_tags, unsigned inner,
                unsigned outer) {
    unsigned dscp = (unsigned)random_below(random, 64) << 2;
    struct made frame = make(random, version, n_tags, dscp | inner), before = frame;
    before.bytes = malloc(frame.length);
    memcpy(before.bytes, frame.bytes, frame.length);
    int expected = combined[inner][outer];
    CHECK_EQUAL(ecn_of_frame(frame.mode, frame.bytes, frame.length), inner);
    CHECK_EQUAL(ecn_combine(frame.mode, frame.bytes, frame.length, (enum ecn)outer),
                expected != LOST);
    check_is(&frame, &before, dscp | (expected == LOST ? inner : (unsigned)expected));
    free(frame.bytes);
    free(before.bytes);
}

static void every_pair_becomes_what_the_rfc_says(void) {
    struct random random = {1};
    for (int round = 0; round < N_ROUNDS; round++)
        for (unsigned pair = 0; pair < N_CODEPOINTS * N_CODEPOINTS; pair++)
            try(&random, round % 2 == 0 ? 4 : 6, round / 2 % 4 - 1, pair / 4, pair % 4);
}

static void only_what_is_capable_is_marked(void) {
    struct random random = {2};
    for (int round = 0; round < N_ROUNDS; round++) {
        unsigned inner = (unsigned)round % 4, version = round / 4 % 2 == 0 ? 4 : 6;
        struct made frame = make(&random, version, round / 8 % 4 - 1, 0x88 | inner);
        CHECK_EQUAL(ecn_mark(frame.mode, frame.bytes, frame.length), inner != ECN_NOT_ECT);
        CHECK_EQUAL(naive_class(&frame), 0x88 | (inner == ECN_NOT_ECT ? 0 : ECN_CE));
        free(frame.bytes);
    }
}

static void a_checksum_that_was_wrong_stays_wrong(void) {
    struct random random = {3};
    for (int round = 0; round < N_ROUNDS; round++) {
        struct made frame = make(&random, 4, -1, ECN_ECT_0);
        uint16_t off = (uint16_t)(1 + random_below(&random, 0xfffe));
        uint16_t right = be16_read(frame.bytes + 10);
        be16_write(frame.bytes + 10, (uint16_t)(right ^ off));
        bool was_right = (right ^ off) % 0xffff == right % 0xffff; /* 0 and 0xffff are the same */
        CHECK(ecn_combine(MODE_TUN, frame.bytes, frame.length, ECN_CE));
        unsigned now = be16_read(frame.bytes + 10);
        CHECK_EQUAL(now % 0xffff == naive_checksum(frame.bytes, header_of(&frame)) % 0xffff,
                    was_right);
        free(frame.bytes);
    }
}

/* ARP, a frame that is cut short, one that announces another version: there is no IP header. */
static void what_is_not_ip_passes_as_it_is(void) {
    struct random random = {4};
    for (int round = 0; round < N_ROUNDS; round++) {
        struct made frame = make(&random, round % 2 == 0 ? 4 : 6, round / 2 % 3, ECN_ECT_0);
        struct made before = frame;
        size_t length = frame.length;
        if (round % 3 == 0)
            be16_write(frame.bytes + frame.ip - 2, 0x0806);
        else if (round % 3 == 1)
            frame.bytes[frame.ip] ^= 0x20; /* 4 and 6 */
        else
            length = 14 + random_below(&random, 20);
        before.bytes = malloc(frame.length);
        memcpy(before.bytes, frame.bytes, frame.length);
        CHECK_EQUAL(ecn_of_frame(MODE_TAP, frame.bytes, length), ECN_NOT_ECT);
        CHECK(ecn_combine(MODE_TAP, frame.bytes, length, ECN_CE));
        CHECK(!ecn_mark(MODE_TAP, frame.bytes, length));
        CHECK_EQUAL(memcmp(frame.bytes, before.bytes, frame.length), 0);
        free(frame.bytes);
        free(before.bytes);
    }
}

int main(void) {
    RUN(every_pair_becomes_what_the_rfc_says);
    RUN(only_what_is_capable_is_marked);
    RUN(a_checksum_that_was_wrong_stays_wrong);
    RUN(what_is_not_ip_passes_as_it_is);
    return EXIT_SUCCESS;
}
