#include "sealing.h"

#include <string.h>

#include "packet/byteorder.h"
#include "check.h"

void sealing_key(uint8_t key[AEAD_KEY_SIZE], unsigned number) {
    for (unsigned i = 0; i < AEAD_KEY_SIZE; i++)
        key[i] = (uint8_t)(number * 17 + i);
}

void sealed_make(struct sealed_message *sealed, enum aead aead, unsigned key_number, uint32_t index,
                 uint64_t counter, const uint8_t *content, size_t length) {
    uint8_t bytes[AEAD_KEY_SIZE], *message = sealed->bytes + STREAM_LENGTH_PREFIX;
    sealing_key(bytes, key_number);
    aead_load_fastest();
    struct aead_key *key = aead_key_new(aead, bytes);
    CHECK(key != NULL && length <= MESSAGE_MAX - DATA_MESSAGE_MIN);
    le32_write(message, aead == AEAD_AES_256_GCM ? 5 : 4);
    le32_write(message + 4, index);
    le64_write(message + 8, counter);
    if (length > 0)
        memcpy(message + DATA_HEADER, content, length);
    CHECK_EQUAL(seal_in_place(key, counter, message + DATA_HEADER, length), length + AEAD_TAG_SIZE);
    be16_write(sealed->bytes, (uint16_t)(length + DATA_MESSAGE_MIN));
    sealed->length = STREAM_LENGTH_PREFIX + DATA_MESSAGE_MIN + length;
    aead_key_free(key);
}

void ipv4_make(uint8_t *packet, size_t length, uint32_t source, uint32_t destination) {
    memset(packet, 0, length);
    packet[0] = 0x45;
    be16_write(packet + 2, (uint16_t)length);
    packet[9] = 17;
    be32_write(packet + 12, source);
    be32_write(packet + 16, destination);
}

void ipv6_make(uint8_t *packet, size_t length, uint32_t source, uint32_t destination) {
    memset(packet, 0, length);
    packet[0] = 0x60;
    be16_write(packet + 4, (uint16_t)(length - IPV6_HEADER_SIZE));
    packet[6] = 17;
    packet[8] = packet[24] = 0xfd;
    be32_write(packet + 20, source);
    be32_write(packet + 36, destination);
}
