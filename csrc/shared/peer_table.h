/* peer_table: what the data path knows and counts by peer, in shared memory.
 *
 * A peer is a slot. Each field has one writer, named below, and any number of readers; the fields
 * of one writer are on a cache line of their own. Times are CLOCK_BOOTTIME in nanoseconds, since
 * a session ages while the machine sleeps.
 */
#ifndef FASTUN_SHARED_PEER_TABLE_H
#define FASTUN_SHARED_PEER_TABLE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fastun.h"

/* Slots are indices into arrays of every worker; this many peers can be connected at once. In the
 * allowed IPs, the number behind the last slot is that of all peers that have none. */
enum { N_PEER_SLOTS = 1024, PEER_SLOT_NONE = N_PEER_SLOTS };

#define PEER_FIELDS(X)                                                                             \
    X(sent_ns)                                                                                     \
    X(sent_data_ns)                                                                                \
    X(sealed)                                                                                      \
    X(sealed_blocks)                                                                               \
    X(no_session_packets)                                                                          \
    X(limited_outbound_packets)                                                                    \
    X(waiting_since_ns)                                                                            \
    X(transmit_packets)                                                                            \
    X(transmit_bytes)                                                                              \
    X(dropped_packets)                                                                             \
    X(received_ns)                                                                                 \
    X(received_data_ns)                                                                            \
    X(receive_packets)                                                                             \
    X(receive_bytes)                                                                               \
    X(limited_inbound_packets)                                                                     \
    X(not_permitted_packets)

/* A struct udp_address, in the words that it is written and read by. */
enum { ENDPOINT_WORDS = sizeof(struct udp_address) / sizeof(uint64_t) };

struct peer_slot {
    /* tun-reader */
    alignas(64) _Atomic uint64_t sent_ns;      /* when anything was last sealed */
    _Atomic uint64_t sent_data_ns;             /* the same without keepalives */
    _Atomic uint64_t sealed;                   /* the next counter of the sending key */
    _Atomic uint64_t sealed_blocks;            /* by the tun-reader, under AES-256-GCM */
    _Atomic uint64_t no_session_packets;       /* dropped because the peer was not connected */
    _Atomic uint64_t limited_outbound_packets; /* dropped by its rate limit or quota */
    /* link-writer */
    /* CLOCK_MONOTONIC: when the oldest frame was read that a full socket does not take; 0: none */
    alignas(64) _Atomic uint64_t waiting_since_ns;
    _Atomic uint64_t transmit_packets;
    _Atomic uint64_t transmit_bytes;
    _Atomic uint64_t dropped_packets; /* because it does not read */
    _Atomic uint64_t in_place_link;   /* id of the link that the tun-reader may write; 0: none */
    /* link-reader */
    alignas(64) _Atomic uint64_t received_ns; /* when anything was last authenticated */
    _Atomic uint64_t received_data_ns;
    _Atomic uint64_t receive_packets;
    _Atomic uint64_t receive_bytes;
    _Atomic uint64_t limited_inbound_packets;
    _Atomic uint64_t not_permitted_packets;        /* dropped: to where the peer may not reach */
    alignas(64) _Atomic uint64_t endpoint_version; /* odd while the endpoint is being written */
    _Atomic uint64_t endpoint[ENDPOINT_WORDS];
};

struct peer_table {
    struct peer_slot slots[N_PEER_SLOTS];
};

static inline void peer_set(_Atomic uint64_t *field, uint64_t value) {
    atomic_store_explicit(field, value, memory_order_relaxed);
}

/* link-reader */
void peer_write_endpoint(struct peer_slot *peer, const struct udp_address *endpoint);
/* Any process: the endpoint if it is not the one of `version`, which is then updated. false: there
 * is nothing new, or none. */
bool peer_read_endpoint(struct peer_slot *peer, uint64_t *version, struct udp_address *endpoint);

#endif
