/* byteorder: integers at any address, in the order that the format names. */
#ifndef FASTUN_BYTEORDER_H
#define FASTUN_BYTEORDER_H

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

#endif
