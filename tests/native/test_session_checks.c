/* Data messages by themselves: what is taken for one, and which check comes first. */
#include "session/session.h"

#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "sealing.h"

enum { INDEX = 0x80000001, TEXT = 64 };

static void a_handshake_message_has_exactly_the_length_of_its_type(void) {
    const size_t lengths[] = {0, 148, 92, 64};
    uint8_t message[200] = {0};
    for (uint32_t type = 0; type < 8; type++)
        for (size_t length = 0; length < sizeof message; length++) {
            le32_write(message, type);
            bool is_one = type >= 1 && type <= 3 && length == lengths[type];
            CHECK_EQUAL(session_is_handshake(message, length), is_one);
        }
    le32_write(message, 1 | 0x100); /* a reserved byte */
    CHECK(!session_is_handshake(message, 148));
}

static void a_data_message_is_at_least_a_keepalive(void) {
    uint8_t message[200] = {0};
    for (uint32_t type = 0; type < 8; type++)
        for (size_t length = 0; length < sizeof message; length++) {
            le32_write(message, type);
            bool is_one = (type == 4 || type == 5) && length >= DATA_MESSAGE_MIN;
            CHECK_EQUAL(session_is_data(message, length), is_one);
        }
    le32_write(message, 4 | 0x1000000);
    CHECK(!session_is_data(message, DATA_MESSAGE_MIN));
}

static int open_with(enum aead aead, uint64_t counter, bool is_tampered) {
    static struct sealed_message sealed;
    uint8_t key[AEAD_KEY_SIZE], text[TEXT] = {0};
    sealing_key(key, 1);
    struct receiving_key receiving = {.keys = {NULL}};
    receiving.keys[aead] = aead_key_new(aead, key);
    sealed_make(&sealed, aead, 1, INDEX, counter, text, TEXT);
    sealed.bytes[sealed.length - 1] ^= is_tampered;
    int result = session_open(&receiving, sealed.bytes + STREAM_LENGTH_PREFIX,
                              sealed.length - STREAM_LENGTH_PREFIX, text);
    CHECK_EQUAL(receiving.replay.next, result < 0 ? 0 : counter + 1);
    aead_key_free(receiving.keys[aead]);
    return result;
}

static void a_counter_over_the_limit_is_refused_before_anything_is_deciphered(void) {
    const enum aead aeads[] = {AEAD_CHACHA20_POLY1305, AEAD_AES_256_GCM};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(open_with(aeads[i], REJECT_AFTER_MESSAGES - 1, false), TEXT);
        CHECK_EQUAL(open_with(aeads[i], REJECT_AFTER_MESSAGES - 1, true), OPEN_BAD_TAG);
        CHECK_EQUAL(open_with(aeads[i], REJECT_AFTER_MESSAGES, false), OPEN_REPLAYED);
        CHECK_EQUAL(open_with(aeads[i], REJECT_AFTER_MESSAGES, true), OPEN_REPLAYED);
    }
}

int main(void) {
    RUN(a_handshake_message_has_exactly_the_length_of_its_type);
    RUN(a_data_message_is_at_least_a_keepalive);
    RUN(a_counter_over_the_limit_is_refused_before_anything_is_deciphered);
    return EXIT_SUCCESS;
}
