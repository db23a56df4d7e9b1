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
        CHECK_EQUAL(reach_has(reach, packet), expected);
        n_in_reach += expected;
        reach_free(&reach);
    }
    CHECK(n_in_reach > ROUNDS / 10 && n_in_reach < ROUNDS * 9 / 10);
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
    RUN(a_list_is_bounded_and_takes_only_prefixes);
    return EXIT_SUCCESS;
}
