/* byteorder: integers at any address, in the order that the format names. */
#ifndef FASTUN_PACKET_BYTEORDER_H
#define FASTUN_PACKET_BYTEORDER_H

#include <stdint.h>

static inline uint16_t le16_read(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline void le16_write(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static inline uint16_t be16_read(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline void be16_write(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

static inline uint32_t be32_read(const uint8_t *bytes) {
    return (uint32_t)be16_read(bytes) << 16 | be16_read(bytes + 2);
}

static inline void be32_write(uint8_t *bytes, uint32_t value) {
    be16_write(bytes, (uint16_t)(value >> 16));
    be16_write(bytes + 2, (uint16_t)value);
}

static inline uint32_t le32_read(const uint8_t *bytes) {
    return (uint32_t)le16_read(bytes) | (uint32_t)le16_read(bytes + 2) << 16;
}

static inline void le32_write(uint8_t *bytes, uint32_t value) {
    le16_write(bytes, (uint16_t)value);
    le16_write(bytes + 2, (uint16_t)(value >> 16));
}

static inline uint64_t le64_read(const uint8_t *bytes) {
    return (uint64_t)le32_read(bytes) | (uint64_t)le32_read(bytes + 4) << 32;
}

static inline void le64_write(uint8_t *bytes, uint64_t value) {
    le32_write(bytes, (uint32_t)value);
    le32_write(bytes + 4, (uint32_t)(value >> 32));
}

#endif
