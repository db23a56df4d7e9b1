/* ICMP answers, judged byte by byte (icmp_answer.h). test_icmp_kernel.c asks the kernel. */
#include <stdbool.h>

#include "check.h"
#include "packet/icmp.h"
#include "icmp_answer.h"
#include "random.h"

enum { PACKET_MAX = 65535, TCP = 6, UDP = 17 };

static uint8_t packet[PACKET_MAX];
static struct random noise = {1};

/* A packet of `length` bytes of noise with a sound header: 10.1.1.1 to 10.2.2.2. */
static void make_ipv4(size_t length, uint8_t protocol) {
    random_fill(&noise, packet, length);
    memcpy(packet, (uint8_t[]){0x45, 0, (uint8_t)(length >> 8), (uint8_t)length}, 4);
    memcpy(packet + 6, (uint8_t[]){0x40, 0, 63, protocol}, 4);
    memcpy(packet + 12, (uint8_t[]){10, 1, 1, 1, 10, 2, 2, 2}, 8);
}

static void make_ipv6(size_t length, uint8_t next_header) {
    size_t payload = length - 40;
    random_fill(&noise, packet, length);
    memcpy(packet, (uint8_t[]){0x60, 1, 2, 3, (uint8_t)(payload >> 8), (uint8_t)payload}, 6);
    packet[6] = next_header;
    memcpy(packet + 8, (uint8_t[16]){0xfd, [15] = 7}, 16);
    memcpy(packet + 24, (uint8_t[16]){0xfd, 2, [15] = 9}, 16);
}

static size_t make_answer(const uint8_t *exact, size_t length, unsigned mtu, uint8_t *answer,
                          size_t answer_max) {
    size_t answered = mtu == 0 ? icmp_unreachable(exact, length, answer, answer_max)
                               : icmp_too_big(exact, length, mtu, answer, answer_max);
    const char *fault =
        answered != 0 ? icmp_answer_fault(exact, answer, answered, answer_max, mtu) : NULL;
    if (fault != NULL)
        printf("        wrong %s\n", fault);
    CHECK(fault == NULL);
    return answered;
}

/* The answer's length; whatever is answered is judged, and that the packet is too big is said to
 * the same as that its host is unreachable. Exact buffers, for ASan. */
static size_t answer_within(size_t length, size_t answer_max) {
    uint8_t *exact = malloc(length), *answer = malloc(answer_max);
    CHECK((exact != NULL || length == 0) && (answer != NULL || answer_max == 0));
    if (length > 0)
        memcpy(exact, packet, length);
    size_t answered = make_answer(exact, length, 0, answer, answer_max);
    CHECK_EQUAL(make_answer(exact, length, 1280, answer, answer_max), answered);
    free(exact);
    free(answer);
    return answered;
}

static bool is_answered(size_t length) {
    return answer_within(length, ICMP_ANSWER_MAX) != 0;
}

/* -- what is sent ------------------------------------------------------------------------------ */

static void the_answer_quotes_as_much_as_the_rfcs_allow(void) {
    for (size_t length = 20; length < 1500; length++) {
        make_ipv4(length, UDP);
        CHECK_EQUAL(answer_within(length, ICMP_ANSWER_MAX), length + 28 > 576 ? 576 : length + 28);
    }
    for (size_t length = 40; length < 1500; length++) {
        make_ipv6(length, UDP);
        CHECK_EQUAL(answer_within(length, ICMP_ANSWER_MAX),
                    length + 48 > 1280 ? 1280 : length + 48);
    }
    make_ipv4(65000, TCP); /* a super-packet */
    CHECK_EQUAL(answer_within(65000, ICMP_ANSWER_MAX), 576);
    make_ipv6(65000, TCP);
    CHECK_EQUAL(answer_within(65000, ICMP_ANSWER_MAX), 1280);
    CHECK_EQUAL(answer_within(65000, ICMP_ANSWER_MAX + 100), 1280); /* not what there is room for */
}

static void what_follows_the_packet_is_not_quoted(void) {
    make_ipv4(60, UDP);
    CHECK_EQUAL(answer_within(80, ICMP_ANSWER_MAX), 60 + 28);
    make_ipv6(60, UDP);
    CHECK_EQUAL(answer_within(80, ICMP_ANSWER_MAX), 60 + 48);
}

static void small_room_shortens_the_quote_down_to_the_ports(void) {
    make_ipv4(400, UDP);
    for (size_t room = 0; room < 500; room++)
        CHECK_EQUAL(answer_within(400, room), room < 28 + 20 + 8 ? 0 : room > 428 ? 428 : room);
    packet[0] = 0x4f; /* 40 bytes of options come before the ports */
    CHECK_EQUAL(answer_within(400, 28 + 60 + 7), 0);
    CHECK_EQUAL(answer_within(400, 28 + 60 + 8), 28 + 60 + 8);
    make_ipv6(400, UDP);
    for (size_t room = 0; room < 500; room++)
        CHECK_EQUAL(answer_within(400, room), room < 48 + 40 + 8 ? 0 : room > 448 ? 448 : room);
}

static void checksums_carry(void) {
    make_ipv4(548, UDP);
    memset(packet + 20, 0xff, 528);
    CHECK(is_answered(548));
    make_ipv6(1232, UDP);
    memset(packet + 40, 0xff, 1192);
    memset(packet + 9, 0xff, 15);
    CHECK(is_answered(1232));
}

/* -- what is not ------------------------------------------------------------------------------- */

static void the_mtu_is_given_as_far_as_its_field_goes(void) {
    uint8_t answer[ICMP_ANSWER_MAX];
    const unsigned mtus[] = {1, 68, 1280, 1420, 65535, 65536, 0x12345678};
    for (size_t i = 0; i < sizeof mtus / sizeof *mtus; i++) {
        make_ipv4(2000, TCP);
        CHECK_EQUAL(icmp_too_big(packet, 2000, mtus[i], answer, sizeof answer), 576);
        unsigned given = mtus[i] < 65535 ? mtus[i] : 65535;
        CHECK(icmp_answer_fault(packet, answer, 576, sizeof answer, given) == NULL);
        make_ipv6(2000, TCP);
        CHECK_EQUAL(icmp_too_big(packet, 2000, mtus[i], answer, sizeof answer), 1280);
        CHECK(icmp_answer_fault(packet, answer, 1280, sizeof answer, mtus[i]) == NULL);
    }
}

static void what_is_not_a_whole_packet_gets_no_answer(void) {
    CHECK_EQUAL(icmp_unreachable(NULL, 0, packet, ICMP_ANSWER_MAX), 0);
    make_ipv4(60, UDP);
    for (size_t length = 0; length < 60; length++)
        CHECK(!is_answered(length));
    packet[0] = 0x44; /* a header of 16 bytes */
    CHECK(!is_answered(60));
    packet[0] = 0x46;
    packet[3] = 23; /* all of it shorter than its header */
    CHECK(!is_answered(60));
    make_ipv6(60, UDP);
    for (size_t length = 0; length < 60; length++)
        CHECK(!is_answered(length));
    for (int version = 0; version < 16; version++) {
        packet[0] = (uint8_t)(version << 4);
        if (version != 4 && version != 6)
            CHECK(!is_answered(60));
    }
}

static bool is_icmp_answered(int version, uint8_t type) {
    if (version == 4)
        make_ipv4(60, 1);
    else
        make_ipv6(60, 58);
    packet[version == 4 ? 20 : 40] = type;
    return is_answered(60);
}

static void an_icmp_error_is_never_answered_but_a_ping_is(void) {
    static const uint8_t queries[] = {0, 8, 13, 14, 15, 16, 17, 18};
    for (int type = 0; type < 256; type++) {
        bool is_query = memchr(queries, type, sizeof queries) != NULL;
        CHECK_EQUAL(is_icmp_answered(4, (uint8_t)type), is_query);
        CHECK_EQUAL(is_icmp_answered(6, (uint8_t)type), type >= 128 && type != 137);
    }
    make_ipv4(20, 1); /* of a type that is not there */
    CHECK(!is_answered(20));
    make_ipv6(40, 58);
    CHECK(!is_answered(40));
    make_ipv4(60, 1); /* behind options */
    packet[0] = 0x46;
    packet[20] = 8;
    packet[24] = 3;
    CHECK(!is_answered(60));
    packet[20] = 3;
    packet[24] = 8;
    CHECK(is_answered(60));
}

static void only_an_address_of_one_host_is_answered_or_answers(void) {
    static const uint8_t addresses[][4] = {{0, 0, 0, 0},        {0, 1, 2, 3},   {127, 0, 0, 1},
                                           {224, 0, 0, 1},      {239, 9, 9, 9}, {240, 0, 0, 1},
                                           {255, 255, 255, 255}};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        for (int at = 12; at <= 16; at += 4) {
            make_ipv4(60, UDP);
            CHECK(is_answered(60));
            memcpy(packet + at, addresses[i], 4);
            CHECK(!is_answered(60));
        }
    static const uint8_t addresses6[][16] = {{0}, {[15] = 1}, {0xff, 2, [15] = 1}, {0xff, 0x0e, 1}};
    for (size_t i = 0; i < sizeof addresses6 / sizeof addresses6[0]; i++)
        for (int at = 8; at <= 24; at += 16) {
            make_ipv6(60, UDP);
            CHECK(is_answered(60));
            memcpy(packet + at, addresses6[i], 16);
            CHECK(!is_answered(60));
        }
    make_ipv6(60, UDP);
    memcpy(packet + 8, (uint8_t[16]){[14] = 1, [15] = 1}, 16);
    CHECK(is_answered(60));
    make_ipv4(60, UDP);
    memcpy(packet + 12, (uint8_t[]){223, 255, 255, 255}, 4);
    CHECK(is_answered(60));
}

static void only_the_first_fragment_is_answered(void) {
    make_ipv4(60, UDP);
    packet[6] = 0x20; /* more fragments */
    CHECK(is_answered(60));
    for (int bit = 0; bit < 13; bit++) {
        packet[6] = (uint8_t)(0x20 | 1 << bit >> 8);
        packet[7] = (uint8_t)(1 << bit);
        CHECK(!is_answered(60));
    }
    make_ipv6(60, 44);
    memcpy(packet + 40, (uint8_t[]){UDP, 0, 0, 1 /* more */}, 4);
    CHECK(is_answered(60));
    for (int bit = 3; bit < 16; bit++) {
        packet[42] = (uint8_t)(1 << bit >> 8);
        packet[43] = (uint8_t)(1 << bit);
        CHECK(!is_answered(60));
    }
}

/* Extension headers one behind the other, then an ICMPv6 message of `type`. */
static size_t make_extensions(uint8_t type) {
    static const uint8_t order[] = {0, 60, 43, 44, 51, 60, 58};
    make_ipv6(200, order[0]);
    size_t at = 40;
    for (size_t i = 0; i + 1 < sizeof order; i++) {
        uint8_t units = order[i] == 44 ? 0 : (uint8_t)i;
        memset(packet + at, 0, 8);
        packet[at] = order[i + 1];
        packet[at + 1] = order[i] == 44 ? 0xcc /* reserved */ : units;
        at += 8 + units * (order[i] == 51 ? 4u : 8u);
    }
    packet[at] = type;
    return at;
}

static void an_icmpv6_error_is_found_behind_extension_headers(void) {
    make_extensions(1);
    CHECK(!is_answered(200));
    size_t at = make_extensions(128);
    CHECK(is_answered(200));
    for (size_t length = 40; length <= at; length++) { /* cut short before the type is there */
        packet[4] = (uint8_t)((length - 40) >> 8);
        packet[5] = (uint8_t)(length - 40);
        CHECK(!is_answered(length));
    }
    packet[5] = (uint8_t)(at + 1 - 40);
    CHECK(is_answered(at + 1));
    for (int extension = 0; extension < 256;
         extension++) { /* one that promises more than is there */
        make_ipv6(60, (uint8_t)extension);
        packet[40] = UDP;
        packet[41] = 255;
        bool walked = extension == 0 || extension == 43 || extension == 60 || extension == 51;
        if (walked)
            CHECK(!is_answered(60));
    }
    make_ipv6(40, 59); /* no next header: nothing there, and no error either */
    CHECK(is_answered(40));
    make_ipv6(48, 60);
    memcpy(packet + 40, (uint8_t[]){59, 0}, 2);
    CHECK(is_answered(48));
}

int main(void) {
    RUN(the_answer_quotes_as_much_as_the_rfcs_allow);
    RUN(what_follows_the_packet_is_not_quoted);
    RUN(small_room_shortens_the_quote_down_to_the_ports);
    RUN(checksums_carry);
    RUN(the_mtu_is_given_as_far_as_its_field_goes);
    RUN(what_is_not_a_whole_packet_gets_no_answer);
    RUN(an_icmp_error_is_never_answered_but_a_ping_is);
    RUN(only_an_address_of_one_host_is_answered_or_answers);
    RUN(only_the_first_fragment_is_answered);
    RUN(an_icmpv6_error_is_found_behind_extension_headers);
    return EXIT_SUCCESS;
}
