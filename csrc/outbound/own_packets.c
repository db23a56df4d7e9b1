#define _GNU_SOURCE
#include "outbound/own_packets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "packet/byteorder.h"
#include "outbound/tun_reader.h"

enum {
    PLACES = 4 * N_PEER_SLOTS, /* a power of two; a search ends at the first empty place */
    PLACE_BITS = 12,

    IPV4_FRAGMENT = 6,
    IPV4_FRAGMENT_OFFSET = 0x1fff,
    IPV4_PROTOCOL = 9,
    IPV6_NEXT_HEADER = 6,
    EXTENSION_FRAGMENT = 44,
    FRAGMENT_HEADER = 8, /* next header, reserved, offset and flags, identification */
    FRAGMENT_OFFSET = 2,
    IPV6_FRAGMENT_OFFSET = 0xfff8,
    PROTOCOL_UDP = 17,
    UDP_HEADER = 8,

    ETHERTYPE_AT = 12,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    ETHERTYPE_VLAN = 0x8100,
    VLAN_TAG = 4,
};

_Static_assert(1 << PLACE_BITS == PLACES, "a place is so many bits of the hash");

struct own_packets {
    bool is_stale;
    uint64_t hash_key;       /* so that peers, which choose the indices, cannot choose the places */
    uint16_t places[PLACES]; /* slots + 1, by hash; 0: empty */
};

struct own_packets *own_packets_new(void) {
    struct own_packets *own = calloc(1, sizeof *own);
    if (own != NULL &&
        getrandom(&own->hash_key, sizeof own->hash_key, 0) != (ssize_t)sizeof own->hash_key) {
        free(own);
        return NULL;
    }
    return own;
}

void own_packets_free(struct own_packets *own) {
    free(own);
}

/* The table is rebuilt at the next lookup, which is rare. */
void own_packets_changed(struct own_packets *own) {
    if (own != NULL)
        own->is_stale = true;
}

/* -- the table --------------------------------------------------------------------------------- */

static unsigned place_of(const struct own_packets *own, uint32_t index) {
    uint64_t mixed = (index ^ own->hash_key) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 29 ^ own->hash_key) * 0x9e3779b97f4a7c15u;
    return (unsigned)(mixed >> (64 - PLACE_BITS));
}

static const struct sending_key *key_at(const struct tun_reader *reader, unsigned slot) {
    return reader->links[slot] != NULL ? reader->links[slot]->sending : NULL;
}

static void rebuild(struct tun_reader *reader) {
    struct own_packets *own = reader->own_packets;
    memset(own->places, 0, sizeof own->places);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        const struct sending_key *key = key_at(reader, slot);
        if (key == NULL)
            continue;
        unsigned place = place_of(own, key->receiver_index);
        while (own->places[place] != 0)
            place = (place + 1) % PLACES;
        own->places[place] = (uint16_t)(slot + 1);
    }
    own->is_stale = false;
}

static bool seals_for(struct tun_reader *reader, uint32_t index) {
    struct own_packets *own = reader->own_packets;
    if (own->is_stale)
        rebuild(reader);
    unsigned place = place_of(own, index);
    for (; own->places[place] != 0; place = (place + 1) % PLACES) {
        const struct sending_key *key = key_at(reader, own->places[place] - 1u);
        if (key != NULL && key->receiver_index == index)
            return true;
    }
    return false;
}

/* -- the packet -------------------------------------------------------------------------------- */

/* Offset of the IP header; `length` if there is none. */
static size_t ip_at(enum mode mode, const uint8_t *frame, size_t length) {
    size_t at = ETHERTYPE_AT;
    if (mode == MODE_TUN)
        return 0;
    if (length >= at + VLAN_TAG + 2 && be16_read(frame + at) == ETHERTYPE_VLAN)
        at += VLAN_TAG;
    if (length < at + 2)
        return length;
    uint16_t type = be16_read(frame + at);
    return type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6 ? at + 2 : length;
}

/* Our kernel cuts with a fragment header and no other. */
static size_t payload_at6(const uint8_t *packet, size_t length) {
    size_t header = IPV6_HEADER;
    uint8_t next = packet[IPV6_NEXT_HEADER];
    if (next == EXTENSION_FRAGMENT && length >= IPV6_HEADER + FRAGMENT_HEADER) {
        const uint8_t *fragment = packet + IPV6_HEADER;
        bool is_first = (be16_read(fragment + FRAGMENT_OFFSET) & IPV6_FRAGMENT_OFFSET) == 0;
        next = is_first ? fragment[0] : EXTENSION_FRAGMENT;
        header += FRAGMENT_HEADER;
    }
    return next == PROTOCOL_UDP ? header + UDP_HEADER : length;
}

/* Offset of the UDP payload; `length` if there is none. */
static size_t payload_at(const uint8_t *packet, size_t length) {
    if (length >= IPV4_HEADER_MIN && packet[0] >> 4 == 4) {
        bool is_first = (be16_read(packet + IPV4_FRAGMENT) & IPV4_FRAGMENT_OFFSET) == 0;
        bool is_udp = packet[IPV4_PROTOCOL] == PROTOCOL_UDP && is_first;
        return is_udp ? (packet[0] & 15u) * 4u + UDP_HEADER : length;
    }
    return length >= IPV6_HEADER && packet[0] >> 4 == 6 ? payload_at6(packet, length) : length;
}

bool own_packets_has(struct tun_reader *reader, const uint8_t *frame, size_t length) {
    size_t ip = ip_at(reader->loop.mode, frame, length);
    size_t at = ip + payload_at(frame + ip, length - ip);
    if (length < at + DATA_HEADER || reader->loop.wire != WIRE_WIREGUARD)
        return false;
    uint32_t type = le32_read(frame + at);
    return (type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES) &&
           seals_for(reader, session_receiver_index(frame + at));
}
