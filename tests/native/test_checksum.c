/* The Internet checksum against RFC 1071 taken word for word: big-endian words, one by one. */
#include "packet/byteorder.h"
#include "check.h"
#include "packet/checksum.h"
#include "random.h"

enum { LENGTH_MAX = 3000, SUPER_PACKET = 65535 };

static struct random noise = {71};

static uint16_t model(const uint8_t *bytes, size_t length) {
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i++) {
        sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
        if (sum > 0xffff)
            sum -= 0xffff;
    }
    return (uint16_t)sum;
}

/* What a checksum field would get, as a number. */
static uint16_t folded(uint64_t sum) {
    uint16_t word = checksum_fold(sum);
    uint8_t bytes[sizeof word];
    memcpy(bytes, &word, sizeof word);
    return be16_read(bytes);
}

/* At an address of the wanted alignment, in a buffer that ends where the bytes do, for ASan. */
static void check_sum(const uint8_t *bytes, size_t length, size_t misaligned) {
    uint8_t *exact = malloc(misaligned + length), *copy = malloc(misaligned + length);
    CHECK(exact != NULL && copy != NULL);
    memcpy(exact + misaligned, bytes, length);
    CHECK_EQUAL(folded(checksum_add(0, exact + misaligned, length)), model(bytes, length));
    memset(copy, 0x5a, misaligned + length);
    uint64_t sum = checksum_add_and_copy(0, exact + misaligned, length, copy + misaligned);
    CHECK_EQUAL(folded(sum), model(bytes, length));
    CHECK(memcmp(copy + misaligned, bytes, length) == 0);
    for (size_t i = 0; i < misaligned; i++)
        CHECK_EQUAL(copy[i], 0x5a);
    free(exact);
    free(copy);
}

static void the_sum_is_the_models_at_every_length_and_alignment(void) {
    uint8_t bytes[LENGTH_MAX];
    for (size_t length = 1; length < 200; length++)
        for (size_t misaligned = 0; misaligned < 16; misaligned++) {
            random_fill(&noise, bytes, length);
            check_sum(bytes, length, misaligned);
        }
    for (int i = 0; i < 3000; i++) {
        size_t length = 1 + random_below(&noise, sizeof bytes);
        random_fill(&noise, bytes, length);
        check_sum(bytes, length, random_below(&noise, 64));
    }
}

/* All ones, mostly ones, and what sums to exactly all ones: where a lost carry shows. */
static void carries_come_in_again(void) {
    static uint8_t bytes[SUPER_PACKET];
    memset(bytes, 0xff, sizeof bytes);
    for (size_t length = 1; length < 300; length++)
        check_sum(bytes, length, length % 8);
    check_sum(bytes, sizeof bytes, 0);
    check_sum(bytes, sizeof bytes - 1, 1);
    for (int i = 0; i < 3000; i++) {
        size_t length = 1 + random_below(&noise, 200);
        memset(bytes, 0xff, length);
        for (size_t n = random_below(&noise, 4); n > 0; n--)
            bytes[random_below(&noise, length)] = (uint8_t)random_next(&noise);
        check_sum(bytes, length, random_below(&noise, 8));
    }
}

static void a_sum_is_zero_only_when_all_is(void) {
    uint8_t zeros[100] = {0};
    for (size_t length = 0; length < sizeof zeros; length++) {
        CHECK_EQUAL(checksum_fold(checksum_add(0, zeros, length)), 0);
        zeros[length] = 1; /* and with its complement, the other zero */
        uint64_t sum = checksum_add(0, zeros, sizeof zeros);
        CHECK_EQUAL(checksum_fold(sum + (uint16_t)~checksum_fold(sum)), 0xffff);
        zeros[length] = 0;
    }
    for (unsigned bit = 0; bit < 64; bit++)
        CHECK(checksum_fold(1ull << bit) != 0);
}

static void any_64_bits_fold(void) {
    CHECK_EQUAL(checksum_fold(UINT64_MAX), 0xffff);
    for (int i = 0; i < 100000; i++) {
        uint64_t sum = random_next(&noise) | (i % 2 == 0 ? 0 : 0xffffffff00000000u << i % 32);
        uint64_t expected = sum % 0xffff;
        CHECK_EQUAL(checksum_fold(sum), expected == 0 ? 0xffff : expected);
    }
}

static void parts_are_added_in_any_order(void) {
    uint8_t bytes[400];
    for (int i = 0; i < 2000; i++) {
        random_fill(&noise, bytes, sizeof bytes);
        size_t length = 200 + random_below(&noise, 200), cut = 2 * random_below(&noise, 100);
        uint64_t first = checksum_add(0, bytes, cut);
        CHECK_EQUAL(folded(checksum_add(first, bytes + cut, length - cut)), model(bytes, length));
        uint64_t second = checksum_add(0, bytes + cut, length - cut);
        CHECK_EQUAL(folded(second + first), model(bytes, length));
        CHECK_EQUAL(folded(checksum_add(second, bytes, cut)), model(bytes, length));
    }
}

static void a_word_is_taken_out_by_its_complement(void) {
    uint8_t bytes[40];
    for (int i = 0; i < 2000; i++) {
        random_fill(&noise, bytes, sizeof bytes);
        size_t at = 2 * random_below(&noise, sizeof bytes / 2);
        uint16_t word;
        memcpy(&word, bytes + at, sizeof word);
        uint64_t sum = checksum_add(0, bytes, sizeof bytes) + (uint16_t)~word;
        memset(bytes + at, 0, sizeof word);
        CHECK_EQUAL(folded(sum), model(bytes, sizeof bytes));
    }
}

/* RFC 1071 3 works this example. */
static void the_rfcs_example_comes_out(void) {
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    CHECK_EQUAL(folded(checksum_add(0, bytes, sizeof bytes)), 0xddf2);
}

static void the_pseudo_header_is_laid_out_as_the_rfcs_draw_it(void) {
    for (int i = 0; i < 2000; i++) {
        uint8_t packet[40], pseudo[40] = {0};
        size_t length = random_below(&noise, SUPER_PACKET + 1);
        uint8_t protocol = (uint8_t)random_next(&noise);
        random_fill(&noise, packet, sizeof packet);
        packet[0] = 0x45;
        memcpy(pseudo, packet + 12, 8);
        pseudo[9] = protocol;
        be16_write(pseudo + 10, (uint16_t)length);
        CHECK_EQUAL(folded(checksum_pseudo_header(packet, protocol, length)), model(pseudo, 12));
        packet[0] = 0x60;
        memset(pseudo, 0, sizeof pseudo);
        memcpy(pseudo, packet + 8, 32);
        be16_write(pseudo + 34, (uint16_t)length);
        pseudo[39] = protocol;
        CHECK_EQUAL(folded(checksum_pseudo_header(packet, protocol, length)), model(pseudo, 40));
    }
}

int main(void) {
    RUN(the_rfcs_example_comes_out);
    RUN(the_sum_is_the_models_at_every_length_and_alignment);
    RUN(carries_come_in_again);
    RUN(a_sum_is_zero_only_when_all_is);
    RUN(any_64_bits_fold);
    RUN(parts_are_added_in_any_order);
    RUN(a_word_is_taken_out_by_its_complement);
    RUN(the_pseudo_header_is_laid_out_as_the_rfcs_draw_it);
    return EXIT_SUCCESS;
}
