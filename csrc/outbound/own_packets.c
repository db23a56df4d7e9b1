#define _GNU_SOURCE
#include "outbound/own_packets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "outbound/crossing.h"
#include "packet/byteorder.h"
#include "packet/headers.h"
#include "outbound/tun_reader.h"

enum {
    PLACES = 4 * N_PEER_SLOTS, /* a power of two; a search ends at the first empty place */
    PLACE_BITS = 12,
    LANES_PLACES = PLACES * LANES_MAX, /* for those of all lanes, likewise */
    LANES_PLACE_BITS = 16,
};

_Static_assert(1 << PLACE_BITS == PLACES && 1 << LANES_PLACE_BITS == LANES_PLACES,
               "a place is so many bits of the hash");

struct own_packets {
    bool is_stale;
    uint64_t hash_key;       /* so that peers, which choose the indices, cannot choose the places */
    uint16_t places[PLACES]; /* slots + 1, by hash; 0: empty */
    uint64_t *of_lanes;      /* indices + 1, by hash; 0: empty; NULL: there is one lane */
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
    if (own != NULL)
        free(own->of_lanes);
    free(own);
}

/* The table is rebuilt at the next lookup, which is rare. */
void own_packets_changed(struct own_packets *own) {
    if (own != NULL)
        own->is_stale = true;
}

/* -- the table --------------------------------------------------------------------------------- */

static unsigned place_of(const struct own_packets *own, uint32_t index, unsigned n_bits) {
    uint64_t mixed = (index ^ own->hash_key) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 29 ^ own->hash_key) * 0x9e3779b97f4a7c15u;
    return (unsigned)(mixed >> (64 - n_bits));
}

static const struct sending_key *key_at(const struct tun_reader *reader, unsigned slot) {
    return reader->links[slot] != NULL ? reader->links[slot]->sending : NULL;
}

static void add_of_lanes(struct own_packets *own, uint32_t index) {
    unsigned place = place_of(own, index, LANES_PLACE_BITS);
    while (own->of_lanes[place] != 0)
        place = (place + 1) % LANES_PLACES;
    own->of_lanes[place] = (uint64_t)index + 1;
}

/* Without memory for it, what this lane seals is known, and the rest is not. */
static void rebuild_of_lanes(struct own_packets *own, const struct crossing *crossing) {
    size_t size = LANES_PLACES * sizeof own->of_lanes[0];
    if (own->of_lanes == NULL)
        own->of_lanes = malloc(size);
    if (own->of_lanes == NULL)
        return;
    memset(own->of_lanes, 0, size);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        for (unsigned i = 0; i < crossing->sealed[slot].n; i++)
            add_of_lanes(own, crossing->sealed[slot].indices[i]);
}

static void rebuild(struct tun_reader *reader) {
    struct own_packets *own = reader->own_packets;
    memset(own->places, 0, sizeof own->places);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        const struct sending_key *key = key_at(reader, slot);
        if (key == NULL)
            continue;
        unsigned place = place_of(own, key->receiver_index, PLACE_BITS);
        while (own->places[place] != 0)
            place = (place + 1) % PLACES;
        own->places[place] = (uint16_t)(slot + 1);
    }
    if (reader->crossing != NULL)
        rebuild_of_lanes(own, reader->crossing);
    own->is_stale = false;
}

static bool a_lane_seals_for(const struct own_packets *own, uint32_t index) {
    if (own->of_lanes == NULL)
        return false;
    unsigned place = place_of(own, index, LANES_PLACE_BITS);
    while (own->of_lanes[place] != 0 && own->of_lanes[place] != (uint64_t)index + 1)
        place = (place + 1) % LANES_PLACES;
    return own->of_lanes[place] != 0;
}

static bool seals_for(struct tun_reader *reader, uint32_t index) {
    struct own_packets *own = reader->own_packets;
    if (own->is_stale)
        rebuild(reader);
    unsigned place = place_of(own, index, PLACE_BITS);
    for (; own->places[place] != 0; place = (place + 1) % PLACES) {
        const struct sending_key *key = key_at(reader, own->places[place] - 1u);
        if (key != NULL && key->receiver_index == index)
            return true;
    }
    return a_lane_seals_for(own, index);
}

/* -- the packet -------------------------------------------------------------------------------- */

/* Offset of the UDP payload behind the IP header at `ip`; `length` if there is none. */
static size_t find_payload(const uint8_t *frame, size_t ip, size_t length) {
    struct ip_headers headers = ip_walk(frame + ip, length - ip);
    bool is_udp = headers.protocol == PROTOCOL_UDP && !headers.is_later_fragment;
    return is_udp && headers.transport != 0 ? ip + headers.transport + UDP_HEADER_SIZE : length;
}

bool own_packets_has(struct tun_reader *reader, const uint8_t *frame, size_t length) {
    size_t ip = reader->loop.mode == MODE_TAP ? ethernet_find_ip(frame, length) : 0;
    if (reader->loop.mode == MODE_TAP && ip == 0)
        return false;
    size_t at = find_payload(frame, ip, length);
    if (length < at + DATA_HEADER || reader->loop.wire != WIRE_WIREGUARD)
        return false;
    uint32_t type = le32_read(frame + at);
    return (type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES) &&
           seals_for(reader, session_receiver_index(frame + at));
}
