/* sealing: data messages made by hand, as a peer would send them or an attacker bend them. */
#ifndef SEALING_H
#define SEALING_H

#include "formats.h"
#include "session/session.h"

struct sealed_message {
    uint8_t bytes[STREAM_LENGTH_PREFIX + MESSAGE_MAX]; /* its length prefix, then the message */
    size_t length;                                     /* of both */
};

/* A key that differs with its number. */
void sealing_key(uint8_t key[AEAD_KEY_SIZE], unsigned number);

/* `content` as a data message under that key; content and padding are the caller's. */
void sealed_make(struct sealed_message *sealed, enum aead aead, unsigned key_number, uint32_t index,
                 uint64_t counter, const uint8_t *content, size_t length);

/* A bare IPv4 packet between two addresses, all else 0; `length` is in its header. */
void ipv4_make(uint8_t *packet, size_t length, uint32_t source, uint32_t destination);
/* The same for IPv6; an address is fd00:: and these last four bytes. */
void ipv6_make(uint8_t *packet, size_t length, uint32_t source, uint32_t destination);

#endif
