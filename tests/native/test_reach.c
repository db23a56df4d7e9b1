/* reach: whether a peer may send to a destination, against a model that compares bit by bit. */
#include "inbound/reach.h"

#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "packet/headers.h"
#include "random.h"

enum { ROUNDS = 20000 };

struct model {
    uint8_t address[16];
    size_t address_length;
    unsigned prefix_length;
};

static bool bit(const uint8_t *bytes, unsigned i) {
    return (bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

static bool has(const struct model *prefixes, size_t n, const uint8_t *destination, size_t length) {
    for (size_t i = 0; i < n; i++) {
        unsigned same = 0;
        while (same < prefixes[i].prefix_length &&
               bit(prefixes[i].address, same) == bit(destination, same))
            same++;
        if (prefixes[i].address_length == length && same == prefixes[i].prefix_length)
            return true;
    }
    return false;
}

static void a_destination_is_in_reach_as_the_model_says(void) {
    struct random random = {9};
    size_t n_in_reach = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct model prefixes[3];
        struct reach *reach = NULL;
        uint8_t packet[IPV6_HEADER_SIZE] = {0};
        size_t length = random_below(&random, 2) == 0 ? 4 : 16;
        packet[0] = length == 4 ? 0x45 : 0x60;
        packet[IPV6_NEXT_HEADER_OFFSET] = PROTOCOL_UDP;
        uint8_t *destination =
            packet + (length == 4 ? IPV4_DESTINATION_OFFSET : IPV6_DESTINATION_OFFSET);
        random_fill(&random, destination, length);
        for (size_t i = 0; i < 3; i++) { /* alike at the beginning, most often */
            prefixes[i].address_length = random_below(&random, 4) == 0 ? 20 - length : length;
            memcpy(prefixes[i].address, destination, length);
            prefixes[i].address[random_below(&random, length)] ^=
                (uint8_t)(1 << random_below(&random, 8));
            prefixes[i].prefix_length =
                (unsigned)random_below(&random, prefixes[i].address_length * 8 + 1);
            CHECK_EQUAL(reach_add(&reach, prefixes[i].address, prefixes[i].address_length,
                                  prefixes[i].prefix_length),
                        0);
        }
        bool expected = has(prefixes, 3, destination, length);
        CHECK_EQUAL(reach_has(reach, packet, sizeof packet), expected);
        n_in_reach += expected;
        reach_free(&reach);
    }
    CHECK(n_in_reach > ROUNDS / 10 && n_in_reach < ROUNDS * 9 / 10);
}

/* Every address is in reach here: what counts is what comes after the packet's. */
static void a_packet_that_names_its_way_from_there_reaches_nothing(void) {
    struct reach *reach = NULL;
    const uint8_t all[16] = {0};
    const struct {
        uint8_t options[4];
        bool is_in;
    } of_ipv4[] = {
        {{1, 1, 1, 0}, true},    {{0, 131, 3, 4}, true},  {{148, 4, 0, 0}, true},
        {{131, 3, 4, 0}, false}, {{137, 3, 4, 0}, false}, {{1, 131, 3, 4}, false},
        {{7, 3, 4, 131}, false}, {{7, 0, 0, 0}, false},   {{1, 1, 1, 7}, false},
    };
    CHECK_EQUAL(reach_add(&reach, all, 4, 0), 0);
    CHECK_EQUAL(reach_add(&reach, all, 16, 0), 0);
    for (size_t i = 0; i < sizeof of_ipv4 / sizeof *of_ipv4; i++) {
        uint8_t packet[24] = {0x46};
        memcpy(packet + IPV4_HEADER_SIZE, of_ipv4[i].options, 4);
        CHECK_EQUAL(reach_has(reach, packet, sizeof packet), of_ipv4[i].is_in);
        CHECK(!reach_has(reach, packet, sizeof packet - 1));
    }
    uint8_t packet[IPV6_HEADER_SIZE + 2 * EXTENSION_SIZE_MIN] = {0x60};
    packet[IPV6_NEXT_HEADER_OFFSET] = EXTENSION_DESTINATION;
    packet[IPV6_HEADER_SIZE] = EXTENSION_ROUTING;
    packet[IPV6_HEADER_SIZE + EXTENSION_SIZE_MIN] = PROTOCOL_UDP;
    CHECK(!reach_has(reach, packet, sizeof packet));
    CHECK(!reach_has(reach, packet, sizeof packet - 1));
    packet[IPV6_HEADER_SIZE] = EXTENSION_DESTINATION;
    CHECK(reach_has(reach, packet, sizeof packet));
    reach_free(&reach);
}

static void a_list_is_bounded_and_takes_only_prefixes(void) {
    struct reach *reach = NULL;
    const uint8_t address[16] = {10};
    CHECK_EQUAL(reach_add(&reach, address, 5, 8), -EINVAL);
    CHECK_EQUAL(reach_add(&reach, address, 4, 33), -EINVAL);
    CHECK(reach == NULL);
    for (int i = 0; i < REACH_MAX; i++)
        CHECK_EQUAL(reach_add(&reach, address, 4, 32), 0);
    CHECK_EQUAL(reach_add(&reach, address, 4, 32), -ENOSPC);
    reach_free(&reach);
    CHECK(reach == NULL);
}

int main(void) {
    RUN(a_destination_is_in_reach_as_the_model_says);
    RUN(a_packet_that_names_its_way_from_there_reaches_nothing);
    RUN(a_list_is_bounded_and_takes_only_prefixes);
    return EXIT_SUCCESS;
}
