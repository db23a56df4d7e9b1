/* A session's two ciphers: each has its key, and both have one row of counters and one window. */
#include "packet/byteorder.h"
#include "check.h"
#include "random.h"
#include "sealing.h"

enum { INDEX = 0x11223344, N_MESSAGES = 20000, TEXT = 48 };

static struct sealed_message sealed;
static uint8_t content[MESSAGE_MAX];
static struct receiving_key *receiving;

/* Each cipher has a key of its own, as the gateway derives them. */
static struct aead_key *key_of(enum aead aead) {
    uint8_t bytes[AEAD_KEY_SIZE];
    sealing_key(bytes, 1 + (unsigned)aead);
    struct aead_key *key = aead_key_new(aead, bytes);
    CHECK(key != NULL);
    return key;
}

static void open_session(bool has_chacha, bool has_aes) {
    receiving = calloc(1, sizeof *receiving);
    receiving->index = INDEX;
    if (has_chacha)
        receiving->keys[AEAD_CHACHA20_POLY1305] = key_of(AEAD_CHACHA20_POLY1305);
    if (has_aes)
        receiving->keys[AEAD_AES_256_GCM] = key_of(AEAD_AES_256_GCM);
}

static int open_one(enum aead aead, uint64_t counter) {
    const uint8_t text[TEXT] = {0x45};
    sealed_make(&sealed, aead, 1 + (unsigned)aead, INDEX, counter, text, TEXT);
    return session_open(receiving, sealed.bytes + STREAM_LENGTH_PREFIX,
                        sealed.length - STREAM_LENGTH_PREFIX, content);
}

static void a_counter_is_used_up_for_both_ciphers(void) {
    for (int first = 0; first < N_AEADS; first++) {
        open_session(true, true);
        CHECK_EQUAL(open_one((enum aead)first, 7), TEXT);
        CHECK_EQUAL(open_one((enum aead)first, 7), OPEN_REPLAYED);
        CHECK_EQUAL(open_one((enum aead)(1 - first), 7), OPEN_REPLAYED);
        CHECK_EQUAL(open_one((enum aead)(1 - first), 6), TEXT);
        CHECK_EQUAL(open_one((enum aead)(1 - first), 7 + REPLAY_WINDOW), TEXT);
        CHECK_EQUAL(open_one((enum aead)first, 5), OPEN_REPLAYED); /* too old to know */
        receiving_key_free(receiving);
    }
}

static void each_message_opens_once_whatever_its_cipher(void) {
    struct random random = {51};
    static bool is_used[N_MESSAGES + 200];
    open_session(true, true);
    for (uint64_t i = 0; i < N_MESSAGES; i++) {
        uint64_t counter = i + random_below(&random, 200);
        int expected = is_used[counter] ? OPEN_REPLAYED : TEXT;
        CHECK_EQUAL(open_one((enum aead)random_below(&random, N_AEADS), counter), expected);
        is_used[counter] = true;
    }
    receiving_key_free(receiving);
}

static void a_cipher_that_was_not_offered_is_a_bad_type_and_uses_up_nothing(void) {
    for (int i = 0; i < N_AEADS; i++) {
        enum aead offered = (enum aead)i, other = (enum aead)(1 - i);
        open_session(i == AEAD_CHACHA20_POLY1305, i == AEAD_AES_256_GCM);
        CHECK_EQUAL(open_one(other, 3), OPEN_BAD_TYPE);
        CHECK_EQUAL(open_one(offered, 3), TEXT);
        receiving_key_free(receiving);
    }
}

static void offer(enum aead aead) {
    uint8_t bytes[AEAD_KEY_SIZE];
    sealing_key(bytes, 1 + (unsigned)aead);
    CHECK_EQUAL(receiving_key_offer(receiving, aead, bytes), 0);
}

/* Whichever is offered first: what a peer does not use costs no kilobyte. */
static void a_further_cipher_has_its_key_when_something_comes_under_it(void) {
    for (int i = 0; i < N_AEADS; i++) {
        enum aead first = (enum aead)i, further = (enum aead)(1 - i);
        open_session(false, false);
        offer(first);
        offer(further);
        CHECK_EQUAL(open_one(first, 1), TEXT);
        CHECK(receiving->keys[first] != NULL && receiving->keys[further] == NULL);
        CHECK_EQUAL(open_one(further, 1), OPEN_REPLAYED);
        CHECK(receiving->keys[further] != NULL && receiving->later[further] == NULL);
        CHECK_EQUAL(open_one(further, 2), TEXT);
        offer(further); /* once more, as to a worker that takes over */
        CHECK_EQUAL(open_one(further, 2), OPEN_REPLAYED);
        CHECK_EQUAL(open_one(further, 3), TEXT);
        CHECK_EQUAL(open_one(first, 4), TEXT);
        receiving_key_free(receiving);
    }
}

static void a_message_under_the_other_ciphers_type_does_not_open_and_uses_up_nothing(void) {
    const uint8_t text[TEXT] = {0x45};
    open_session(true, true);
    for (int i = 0; i < N_AEADS; i++) {
        sealed_make(&sealed, (enum aead)i, 1 + (unsigned)i, INDEX, 9, text, TEXT);
        sealed.bytes[STREAM_LENGTH_PREFIX] ^= MESSAGE_DATA_CHACHA ^ MESSAGE_DATA_AES;
        CHECK_EQUAL(session_open(receiving, sealed.bytes + STREAM_LENGTH_PREFIX,
                                 sealed.length - STREAM_LENGTH_PREFIX, content),
                    OPEN_BAD_TAG);
    }
    CHECK_EQUAL(open_one(AEAD_CHACHA20_POLY1305, 9), TEXT);
    receiving_key_free(receiving);
}

static void what_was_opened_opens_again_elsewhere_and_uses_up_nothing(void) {
    uint8_t again[TEXT];
    open_session(true, true);
    CHECK_EQUAL(open_one(AEAD_AES_256_GCM, 5), TEXT);
    const uint8_t *message = sealed.bytes + STREAM_LENGTH_PREFIX;
    size_t length = sealed.length - STREAM_LENGTH_PREFIX;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(session_open_again(receiving, message, length, again), TEXT);
        CHECK_EQUAL(memcmp(again, content, TEXT), 0);
    }
    CHECK_EQUAL(open_one(AEAD_AES_256_GCM, 5), OPEN_REPLAYED);
    CHECK_EQUAL(open_one(AEAD_AES_256_GCM, 6), TEXT);
    sealed.bytes[sealed.length - 1] ^= 1;
    CHECK_EQUAL(session_open_again(receiving, message, length, again), OPEN_BAD_TAG);
    receiving_key_free(receiving);
}

/* -- padding ----------------------------------------------------------------------------------- */

static void a_packet_is_padded_to_16_bytes_but_not_beyond_the_mtu(void) {
    uint8_t bytes[DATA_HEADER + 200 + DATA_TAG];
    for (size_t mtu = 0; mtu < 180; mtu++)
        for (size_t length = 1; length < 160; length++) {
            struct sending_counter counter = {0};
            struct sending_key sending = {.key = key_of(AEAD_AES_256_GCM),
                                          .counter = &counter,
                                          .aead = AEAD_AES_256_GCM,
                                          .receiver_index = INDEX,
                                          .expires_ns = UINT64_MAX};
            struct message_outbound message = {bytes + DATA_HEADER, length, 1, true,
                                               ECN_NOT_ECT,         0};
            size_t padded = (length + 15) / 16 * 16;
            if (mtu != 0 && padded > mtu)
                padded = length > mtu ? length : mtu;
            CHECK(session_seal(&sending, &message, mtu));
            CHECK_EQUAL(message.length, DATA_MESSAGE_MIN + padded);
            aead_key_free(sending.key);
        }
}

int main(void) {
    RUN(a_counter_is_used_up_for_both_ciphers);
    RUN(each_message_opens_once_whatever_its_cipher);
    RUN(a_cipher_that_was_not_offered_is_a_bad_type_and_uses_up_nothing);
    RUN(a_further_cipher_has_its_key_when_something_comes_under_it);
    RUN(a_message_under_the_other_ciphers_type_does_not_open_and_uses_up_nothing);
    RUN(what_was_opened_opens_again_elsewhere_and_uses_up_nothing);
    RUN(a_packet_is_padded_to_16_bytes_but_not_beyond_the_mtu);
    return EXIT_SUCCESS;
}
