/* Sealing by each library that is here, against known answers of another one, against every kind of
 * damage. Buffers are exactly as long as they need be, for ASan. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "session/aead_library.h"

static const enum aead aeads[] = {AEAD_CHACHA20_POLY1305, AEAD_AES_256_GCM};
enum { N_AEADS = sizeof aeads / sizeof aeads[0] };

/* The one under test. */
static const struct aead_library *library;

static uint8_t *bytes_new(size_t length) {
    uint8_t *bytes = malloc(length);
    CHECK(bytes != NULL || length == 0);
    return bytes;
}

/* The known answers' key and text. */
static struct aead_key *test_key(enum aead aead) {
    uint8_t bytes[AEAD_KEY_SIZE];
    for (int i = 0; i < AEAD_KEY_SIZE; i++)
        bytes[i] = (uint8_t)(32 + i);
    struct aead_key *key = library->key_new(aead, bytes);
    CHECK(key != NULL);
    return key;
}

static void write_text(uint8_t *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        text[i] = (uint8_t)(i * 7 + length);
}

static uint8_t *sealed_new(struct aead_key *key, uint64_t counter, size_t length) {
    uint8_t *sealed = bytes_new(length + AEAD_TAG_SIZE);
    write_text(sealed, length);
    CHECK_EQUAL(seal_in_place(key, counter, sealed, length), length + AEAD_TAG_SIZE);
    return sealed;
}

static bool is_hex(const uint8_t *bytes, const char *hex) {
    char byte[3];
    for (; *hex != 0; hex += 2, bytes++) {
        snprintf(byte, sizeof byte, "%02x", *bytes);
        if (strncmp(byte, hex, 2) != 0)
            return false;
    }
    return true;
}

/* -- known answers ----------------------------------------------------------------------------- */

/* Test cases 13 and 14 of McGrew and Viega's GCM specification: all zeros, so counter 0 says it. */
static void the_gcm_specifications_cases_are_met(void) {
    uint8_t zeros[AEAD_KEY_SIZE] = {0}, text[16 + AEAD_TAG_SIZE] = {0};
    struct aead_key *key = library->key_new(AEAD_AES_256_GCM, zeros);
    CHECK_EQUAL(seal_in_place(key, 0, text, 0), AEAD_TAG_SIZE);
    CHECK(is_hex(text, "530f8afbc74536b9a963b4f1c4cb738b"));
    memset(text, 0, sizeof text);
    CHECK_EQUAL(seal_in_place(key, 0, text, 16), 16 + AEAD_TAG_SIZE);
    CHECK(is_hex(text, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"));
    aead_key_free(key);
}

/* Made with OpenSSL 4.0.0 through Python's cryptography 48.0.0: key bytes 32..63, text byte i is
 * (7 i + length) mod 256, nonce 4 zero bytes and the counter little-endian. `begin` is the
 * ciphertext's, at most 16 bytes. The tag covers the rest. */
static const struct answer {
    enum aead aead;
    size_t length;
    uint64_t counter;
    const char *begin, *tag;
} answers[] = {
    {AEAD_CHACHA20_POLY1305, 0, 0, "", "28e692e774485eb5a8268f2b98ad4aec"},
    {AEAD_CHACHA20_POLY1305, 1, 1, "13", "74182debe1f2c7ece4ee54aa2343379d"},
    {AEAD_CHACHA20_POLY1305, 16, 1ull << 32, "ed45417947109800cea57ecb1ac187fd",
     "b8eb19bf31eb7188739d36b7251d5dea"},
    {AEAD_CHACHA20_POLY1305, 64, 0x0123456789abcdef, "c473218de446e7fbf81232b9e9c7de6b",
     "681769a4eca3c3c6729a0cda26db5cf0"},
    {AEAD_CHACHA20_POLY1305, 1436, 1ull << 63, "466d1bd62d829b3842600be80f593593",
     "dd6ad95079d9ccbb29e47962d7a6f7b9"},
    {AEAD_CHACHA20_POLY1305, 65519, UINT64_MAX - 8193, "8a1498e06c345f55207ecc86a73afd20",
     "4ca4f9305c88e1915b0cbb09cbfd60c6"},
    {AEAD_AES_256_GCM, 0, 0, "", "559efde882f944036ca918de8b47b2f7"},
    {AEAD_AES_256_GCM, 1, 1, "9a", "33bb61aaac84893fac87a3363b245dea"},
    {AEAD_AES_256_GCM, 16, 1ull << 32, "eb801e29337086555ac57f9aab2bd455",
     "6a7246477eabfe9a9cb9f00a486bf2a0"},
    {AEAD_AES_256_GCM, 64, 0x0123456789abcdef, "ff9158cb684e8e2b19f59e920522fc33",
     "2bd49afa5bd50b0f9554640e03f581bc"},
    {AEAD_AES_256_GCM, 1436, 1ull << 63, "a267de2fc1df83a9b36c17161d69222d",
     "22454262c036518efdeb0a03d5f26427"},
    {AEAD_AES_256_GCM, 65519, UINT64_MAX - 8193, "a8f96618bd8df73421316ad5c68d7cd2",
     "461f9e070dd521f8a9fa0ec222746b09"},
};

static void the_known_answers_of_another_library_are_met(void) {
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const struct answer *answer = &answers[i];
        struct aead_key *key = test_key(answer->aead);
        uint8_t *sealed = sealed_new(key, answer->counter, answer->length);
        CHECK(is_hex(sealed, answer->begin));
        CHECK(is_hex(sealed + answer->length, answer->tag));
        free(sealed);
        aead_key_free(key);
    }
}

/* All sealed bytes of the lengths 0..1600, counter 65537 x length, folded by FNV-1a. */
static uint64_t digest_of_all_lengths(enum aead aead) {
    uint64_t digest = 0xcbf29ce484222325;
    struct aead_key *key = test_key(aead);
    for (size_t length = 0; length <= 1600; length++) {
        uint8_t *sealed = sealed_new(key, length * 0x10001, length);
        for (size_t i = 0; i < length + AEAD_TAG_SIZE; i++)
            digest = (digest ^ sealed[i]) * 0x100000001b3;
        free(sealed);
    }
    aead_key_free(key);
    return digest;
}

static void every_length_up_to_1600_is_sealed_as_another_library_does(void) {
    CHECK(digest_of_all_lengths(AEAD_CHACHA20_POLY1305) == 0x5c966ebe6157cd58);
    CHECK(digest_of_all_lengths(AEAD_AES_256_GCM) == 0x0a8ce77ca0e13d5c);
}

/* -- there and back ---------------------------------------------------------------------------- */

static void check_round_trip(struct aead_key *sealer, struct aead_key *opener, uint64_t counter,
                             size_t length) {
    uint8_t *sealed = sealed_new(sealer, counter, length);
    uint8_t *text = bytes_new(length), *expected = bytes_new(length);
    write_text(expected, length);
    CHECK_EQUAL(open_into(opener, counter, sealed, length + AEAD_TAG_SIZE, text), length);
    CHECK(length == 0 || memcmp(text, expected, length) == 0);
    CHECK_EQUAL(open_into(opener, counter, sealed, length + AEAD_TAG_SIZE, sealed), length);
    CHECK(length == 0 || memcmp(sealed, expected, length) == 0);
    free(sealed);
    free(text);
    free(expected);
}

/* The same bytes as in place; the text is still there. */
static void check_sealed_apart(struct aead_key *key, size_t length) {
    uint8_t *text = bytes_new(length), *expected = bytes_new(length);
    uint8_t *in_place = sealed_new(key, 7, length), *apart = bytes_new(length + AEAD_TAG_SIZE);
    write_text(text, length);
    write_text(expected, length);
    CHECK_EQUAL(seal_into(key, 7, text, length, apart), length + AEAD_TAG_SIZE);
    CHECK_EQUAL(memcmp(apart, in_place, length + AEAD_TAG_SIZE), 0);
    CHECK_EQUAL(memcmp(text, expected, length), 0);
    free(text);
    free(expected);
    free(in_place);
    free(apart);
}

static void what_is_sealed_opens_apart_and_in_place(void) {
    for (int i = 0; i < N_AEADS; i++) {
        struct aead_key *sealer = test_key(aeads[i]), *opener = test_key(aeads[i]);
        for (size_t length = 0; length < 300; length++)
            check_round_trip(sealer, opener, length, length);
        for (size_t length = 0; length < 1600; length += 13)
            check_sealed_apart(sealer, length);
        for (size_t length = 300; length <= 65519; length += 997)
            check_round_trip(sealer, opener, length << 40, length);
        aead_key_free(sealer);
        aead_key_free(opener);
    }
}

/* -- damage ------------------------------------------------------------------------------------ */

/* `length` is the sealed one. Nothing of the text may be left, nor a byte written behind it. */
static void check_refused(struct aead_key *key, uint64_t counter, const uint8_t *sealed,
                          size_t length) {
    size_t text_length = length < AEAD_TAG_SIZE ? 0 : length - AEAD_TAG_SIZE;
    uint8_t *text = bytes_new(text_length + 1), *in_place = bytes_new(length + 1);
    memset(text, 0xaa, text_length + 1);
    CHECK_EQUAL(open_into(key, counter, sealed, length, text), -EBADMSG);
    CHECK(is_zero(text, text_length));
    CHECK_EQUAL(text[text_length], 0xaa);
    memcpy(in_place, sealed, length);
    CHECK_EQUAL(open_into(key, counter, in_place, length, in_place), -EBADMSG);
    CHECK(is_zero(in_place, text_length));
    free(text);
    free(in_place);
}

static void check_every_flipped_bit(enum aead aead, size_t length, size_t step) {
    struct aead_key *key = test_key(aead);
    uint8_t *sealed = sealed_new(key, 5, length);
    for (size_t bit = 0; bit < 8 * (length + AEAD_TAG_SIZE); bit += step) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        check_refused(key, 5, sealed, length + AEAD_TAG_SIZE);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    check_round_trip(key, key, 5, length);
    free(sealed);
    aead_key_free(key);
}

static void a_single_flipped_bit_is_refused_and_leaves_no_text(void) {
    for (int i = 0; i < N_AEADS; i++) {
        check_every_flipped_bit(aeads[i], 0, 1);
        check_every_flipped_bit(aeads[i], 64, 1);
        check_every_flipped_bit(aeads[i], 1436, 37);
        check_every_flipped_bit(aeads[i], 65519, 20011);
    }
}

static void a_message_cut_short_or_drawn_out_is_refused(void) {
    for (int i = 0; i < N_AEADS; i++) {
        struct aead_key *key = test_key(aeads[i]);
        uint8_t *sealed = sealed_new(key, 5, 64), *longer = bytes_new(64 + AEAD_TAG_SIZE + 1);
        for (size_t length = 0; length < 64 + AEAD_TAG_SIZE; length++)
            check_refused(key, 5, sealed, length);
        memcpy(longer, sealed, 64 + AEAD_TAG_SIZE);
        longer[64 + AEAD_TAG_SIZE] = 0;
        check_refused(key, 5, longer, 64 + AEAD_TAG_SIZE + 1);
        free(sealed);
        free(longer);
        aead_key_free(key);
    }
}

static void another_counter_key_or_cipher_does_not_open_it(void) {
    struct aead_key *keys[] = {test_key(AEAD_CHACHA20_POLY1305), test_key(AEAD_AES_256_GCM)};
    uint8_t other_bytes[AEAD_KEY_SIZE] = {1};
    for (int i = 0; i < N_AEADS; i++) {
        uint8_t *sealed = sealed_new(keys[i], 5, 64);
        struct aead_key *other = library->key_new(aeads[i], other_bytes);
        check_refused(other, 5, sealed, 64 + AEAD_TAG_SIZE);
        check_refused(keys[1 - i], 5, sealed, 64 + AEAD_TAG_SIZE);
        for (int bit = 0; bit < 64; bit++)
            check_refused(keys[i], 5 ^ 1ull << bit, sealed, 64 + AEAD_TAG_SIZE);
        aead_key_free(other);
        free(sealed);
    }
    aead_key_free(keys[0]);
    aead_key_free(keys[1]);
}

/* -- the processor ----------------------------------------------------------------------------- */

static bool has_cpu_flag(const char *flag) {
    char line[8192];
    bool found = false;
    FILE *cpuinfo = fopen("/proc/cpuinfo", "r");
    while (!found && fgets(line, sizeof line, cpuinfo) != NULL)
        if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0)
            found = strstr(line, flag) != NULL;
    fclose(cpuinfo);
    return found;
}

static void aes_instructions_are_reported_as_the_kernel_does(void) {
#ifdef __x86_64__
    bool expected = has_cpu_flag(" aes ") && has_cpu_flag(" pclmulqdq ");
#else
    bool expected = has_cpu_flag(" aes ") && has_cpu_flag(" pmull ");
#endif
    CHECK_EQUAL(aead_has_aes_instructions(), expected);
}

/* -- the libraries ----------------------------------------------------------------------------- */

/* As in a gateway, which seals a message now and then. */
static void until_the_fastest_is_asked_for_libgcrypt_seals(void) {
    struct aead_key *key = aead_key_new(AEAD_AES_256_GCM, (const uint8_t[AEAD_KEY_SIZE]){1});
    CHECK(key->library == &aead_gcrypt);
    aead_load_fastest();
    uint8_t text[32 + AEAD_TAG_SIZE] = {1}, same[sizeof text] = {1};
    struct aead_key *faster = aead_key_new(AEAD_AES_256_GCM, (const uint8_t[AEAD_KEY_SIZE]){1});
    CHECK_EQUAL(seal_in_place(key, 1, text, 32), sizeof text);
    CHECK_EQUAL(seal_in_place(faster, 1, same, 32), sizeof same);
    CHECK(memcmp(text, same, sizeof text) == 0);
    aead_key_free(key);
    aead_key_free(faster);
}

static void preparing_again_changes_nothing(void) {
    CHECK_EQUAL(aead_init(), 0);
    const char *name = aead_library_name();
    CHECK_EQUAL(aead_init(), 0);
    CHECK(aead_library_name() == name);
}

/* Compiled in, it is used where the kernel shows what it is the faster for. */
static void the_faster_library_seals(void) {
#ifdef FASTUN_WITH_IPSEC_MB
    bool is_expected =
        has_cpu_flag(" avx512vl ") && has_cpu_flag(" vaes ") && has_cpu_flag(" vpclmulqdq ");
#else
    bool is_expected = false;
#endif
    const struct aead_library *expected = is_expected ? &aead_ipsec_mb : &aead_gcrypt;
    CHECK(strcmp(aead_library_name(), expected->name) == 0);
    struct aead_key *key = aead_key_new(AEAD_AES_256_GCM, (const uint8_t[AEAD_KEY_SIZE]){1});
    CHECK(key->library == expected);
    aead_key_free(key);
}

/* It gets no text, nonce or place for a tag, and does nothing. */
static void what_the_library_refuses_is_neither_sealed_nor_opened(void) {
    const uint8_t nonce[AEAD_NONCE_SIZE] = {0};
    for (size_t i = 0; i < N_AEADS; i++) {
        struct aead_key *key = test_key(aeads[i]);
        uint8_t tag[AEAD_TAG_SIZE], text[64], to[64], *sealed = sealed_new(key, 0, sizeof text);
        CHECK_EQUAL(library->open(key, nonce, sealed, sizeof text, text), 0);
        CHECK_EQUAL(library->open(key, nonce, sealed, sizeof text, NULL), -EBADMSG);
        CHECK_EQUAL(library->seal(key, nonce, NULL, sizeof text, to, tag), -EINVAL);
        CHECK_EQUAL(library->seal(key, NULL, text, sizeof text, to, tag), -EINVAL);
        CHECK_EQUAL(library->seal(key, nonce, text, sizeof text, NULL, tag), -EINVAL);
        CHECK_EQUAL(library->seal(key, nonce, text, sizeof text, to, NULL), -EINVAL);
        CHECK_EQUAL(library->seal(key, nonce, text, sizeof text, to, tag), 0);
        free(sealed);
        aead_key_free(key);
    }
}

static void run_with(const struct aead_library *with) {
    library = with;
    printf("  %s\n", library->name);
    RUN(the_gcm_specifications_cases_are_met);
    RUN(the_known_answers_of_another_library_are_met);
    RUN(every_length_up_to_1600_is_sealed_as_another_library_does);
    RUN(what_is_sealed_opens_apart_and_in_place);
    RUN(a_single_flipped_bit_is_refused_and_leaves_no_text);
    RUN(a_message_cut_short_or_drawn_out_is_refused);
    RUN(another_counter_key_or_cipher_does_not_open_it);
}

int main(void) {
    RUN(until_the_fastest_is_asked_for_libgcrypt_seals);
    RUN(preparing_again_changes_nothing);
    RUN(the_faster_library_seals);
    run_with(&aead_gcrypt);
    if (strcmp(aead_library_name(), aead_gcrypt.name) != 0)
        run_with(&aead_ipsec_mb);
    if (library == &aead_ipsec_mb)
        RUN(what_the_library_refuses_is_neither_sealed_nor_opened);
    RUN(aes_instructions_are_reported_as_the_kernel_does);
    return EXIT_SUCCESS;
}
