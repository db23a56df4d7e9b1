/* mss: what is lowered, what is left, and that the checksum stays right. */
#include "packet/mss.h"

#include <stdlib.h>
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "packet/checksum.h"
#include "random.h"

enum { PACKET_MAX = 128, SYN = 2, ACK = 16, MTU = 1400 };

struct syn {
    uint8_t bytes[PACKET_MAX];
    size_t length, tcp, mss; /* where these begin; mss 0: no such option */
};

static void put_checksum(struct syn *syn) {
    uint8_t *tcp = syn->bytes + syn->tcp;
    size_t length = syn->length - syn->tcp;
    memset(tcp + 16, 0, 2);
    uint64_t sum = checksum_add(checksum_pseudo_header(syn->bytes, 6, length), tcp, length);
    uint16_t checksum = (uint16_t)~checksum_fold(sum);
    memcpy(tcp + 16, &checksum, sizeof checksum);
}

static bool is_checksum_right(const struct syn *syn) {
    const uint8_t *tcp = syn->bytes + syn->tcp;
    size_t length = syn->length - syn->tcp;
    return checksum_fold(
               checksum_add(checksum_pseudo_header(syn->bytes, 6, length), tcp, length)) == 0xffff;
}

/* `n_before` options of one byte come before the MSS. */
static struct syn make_syn(int version, uint16_t mss, size_t n_before, uint8_t flags,
                           struct random *random) {
    struct syn syn = {.tcp = version == 4 ? 20 : 40};
    uint8_t *tcp = syn.bytes + syn.tcp;
    size_t options = (n_before + 4 + 3) / 4 * 4;
    for (size_t i = 0; i < PACKET_MAX; i++)
        syn.bytes[i] = (uint8_t)random_below(random, 256);
    syn.length = syn.tcp + 20 + options;
    syn.bytes[0] = version == 4 ? 0x45 : 0x60;
    syn.bytes[6] = version == 4 ? 0x40 : 6;
    if (version == 4)
        syn.bytes[7] = 0;
    syn.bytes[9] = version == 4 ? 6 : syn.bytes[9];
    tcp[12] = (uint8_t)((20 + options) / 4 << 4);
    tcp[13] = flags;
    memset(tcp + 20, 1, options);
    syn.mss = syn.tcp + 20 + n_before;
    memcpy(syn.bytes + syn.mss, (const uint8_t[]){2, 4}, 2);
    syn.mss += 2;
    be16_write(syn.bytes + syn.mss, mss);
    put_checksum(&syn);
    return syn;
}

static void a_segment_that_would_not_fit_is_lowered_wherever_the_option_is(void) {
    struct random random = {1};
    for (int i = 0; i < 2000; i++) {
        int version = i % 2 == 0 ? 4 : 6;
        uint16_t fits = version == 4 ? MTU - 40 : MTU - 60;
        struct syn syn = make_syn(version, (uint16_t)(fits + 1 + random_below(&random, 8000)),
                                  random_below(&random, 7), SYN, &random);
        mss_clamp(syn.bytes, syn.length, MTU, true);
        CHECK_EQUAL(be16_read(syn.bytes + syn.mss), fits);
        CHECK(is_checksum_right(&syn));
    }
}

static void check_left(const struct syn *before, size_t mtu) {
    struct syn syn = *before;
    mss_clamp(syn.bytes, syn.length, mtu, true);
    CHECK(memcmp(&syn, before, sizeof syn) == 0);
}

static void what_fits_is_left(void) {
    struct random random = {2};
    for (uint16_t less = 0; less < 3; less++) {
        struct syn syn = make_syn(4, (uint16_t)(MTU - 40 - less), 0, SYN | ACK, &random);
        check_left(&syn, MTU);
    }
}

/* No one has such a device; no segment at all would be too short for TCP. */
static void where_only_the_headers_fit_nothing_is_lowered(void) {
    struct random random = {6};
    struct syn syn = make_syn(4, 9000, 0, SYN, &random);
    check_left(&syn, 40);
    check_left(&syn, 0);
}

static void what_only_looks_like_an_option_is_left(void) {
    struct random random = {7};
    struct syn syn = make_syn(4, 9000, 2, SYN, &random);
    uint8_t *options = syn.bytes + syn.tcp + 20;
    options[3] = 3; /* another length */
    check_left(&syn, MTU);
    options[3] = 4;
    memcpy(options, (const uint8_t[]){0, 2}, 2); /* behind the end of the options */
    check_left(&syn, MTU);
}

/* A packet whose first bytes, taken for TCP's, and whose other bytes, behind its header, are those
 * of a SYN. */
static void what_is_not_tcp_is_left_alone(void) {
    struct random random = {8};
    for (int version = 4; version <= 6; version += 2) {
        struct syn syn = make_syn(version, 9000, 0, SYN, &random);
        syn.bytes[12] = 0x60;
        syn.bytes[13] = SYN;
        memcpy(syn.bytes + 20, (const uint8_t[]){2, 4, 0x20, 0}, 4);
        syn.bytes[version == 4 ? 9 : 6] = 17;
        check_left(&syn, MTU);
    }
    struct syn syn = make_syn(4, 9000, 0, SYN, &random);
    syn.bytes[0] = 0x44; /* shorter than a header is: TCP would begin in its addresses */
    syn.bytes[16 + 12] = 0x60;
    syn.bytes[16 + 13] = SYN;
    memcpy(syn.bytes + 16 + 20, (const uint8_t[]){2, 4, 0x20, 0}, 4);
    check_left(&syn, MTU);
}

/* It may be an authentication header, which covers the option. */
static void a_syn_behind_an_extension_header_is_left(void) {
    struct random random = {4};
    struct syn syn = make_syn(6, 9000, 0, SYN, &random);
    memmove(syn.bytes + syn.tcp + 8, syn.bytes + syn.tcp, syn.length - syn.tcp);
    memcpy(syn.bytes + syn.tcp, (const uint8_t[8]){6}, 8);
    syn.bytes[6] = 51;
    syn.length += 8;
    check_left(&syn, MTU);
}

static void only_a_syn_is_looked_at(void) {
    struct random random = {3};
    struct syn syn = make_syn(6, 9000, 3, ACK, &random), before = syn;
    mss_clamp(syn.bytes, syn.length, MTU, true);
    CHECK(memcmp(&syn, &before, sizeof syn) == 0);
    syn = before = make_syn(4, 9000, 3, SYN, &random);
    syn.bytes[7] = before.bytes[7] = 1; /* a later fragment */
    mss_clamp(syn.bytes, syn.length, MTU, true);
    CHECK(memcmp(&syn, &before, sizeof syn) == 0);
}

static void a_checksum_that_is_still_to_be_made_is_left(void) {
    struct random random = {4};
    struct syn syn = make_syn(4, 9000, 0, SYN, &random);
    uint16_t checksum = be16_read(syn.bytes + syn.tcp + 16);
    mss_clamp(syn.bytes, syn.length, MTU, false);
    CHECK_EQUAL(be16_read(syn.bytes + syn.mss), MTU - 40);
    CHECK_EQUAL(be16_read(syn.bytes + syn.tcp + 16), checksum);
}

/* Under the sanitizers: nothing behind the packet is read or written. */
static void noise_is_survived(void) {
    struct random random = {5};
    for (int i = 0; i < 200000; i++) {
        size_t length = 40 + random_below(&random, 60);
        uint8_t *packet = malloc(length);
        CHECK(packet != NULL);
        for (size_t j = 0; j < length; j++)
            packet[j] = (uint8_t)random_below(&random, 256);
        packet[0] = i % 2 == 0 ? (uint8_t)(0x45 + random_below(&random, 11)) : 0x60;
        packet[i % 2 == 0 ? 9 : 6] = 6;
        mss_clamp(packet, length, MTU, true);
        free(packet);
    }
}

int main(void) {
    RUN(a_segment_that_would_not_fit_is_lowered_wherever_the_option_is);
    RUN(what_fits_is_left);
    RUN(where_only_the_headers_fit_nothing_is_lowered);
    RUN(what_only_looks_like_an_option_is_left);
    RUN(what_is_not_tcp_is_left_alone);
    RUN(a_syn_behind_an_extension_header_is_left);
    RUN(only_a_syn_is_looked_at);
    RUN(a_checksum_that_is_still_to_be_made_is_left);
    RUN(noise_is_survived);
    return EXIT_SUCCESS;
}
