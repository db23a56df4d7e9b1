/* peer_table: what the data path knows and counts by peer, in shared memory.
 *
 * A peer is a slot. Each field has one writer, and any number of readers; the fields of one writer
 * are on a cache line of their own. Times are CLOCK_BOOTTIME in nanoseconds, since
 * a session ages while the machine sleeps.
 */
#ifndef FASTUN_SHARED_PEER_TABLE_H
#define FASTUN_SHARED_PEER_TABLE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastun.h"
#include "shared/shared_memory.h"

/* Slots are indices into arrays of every worker; this many peers can be connected at once. In the
 * allowed IPs, the number behind the last slot is that of all peers that have none. */
enum { N_PEER_SLOTS = 1024, PEER_SLOT_NONE = N_PEER_SLOTS };

/* field, and the part of the table that has it */
#define PEER_FIELDS(X)                                                                             \
    X(sent_ns, by_tun_reader)                                                                      \
    X(sent_data_ns, by_tun_reader)                                                                 \
    X(sealed, by_tun_reader)                                                                       \
    X(sealed_blocks, by_tun_reader)                                                                \
    X(no_session_packets, by_tun_reader)                                                           \
    X(limited_outbound_packets, by_tun_reader)                                                     \
    X(waiting_since_ns, by_link_writer)                                                            \
    X(transmit_packets, by_link_writer)                                                            \
    X(transmit_bytes, by_link_writer)                                                              \
    X(dropped_packets, by_link_writer)                                                             \
    X(received_ns, by_link_reader)                                                                 \
    X(received_data_ns, by_link_reader)                                                            \
    X(receive_packets, by_link_reader)                                                             \
    X(receive_bytes, by_link_reader)                                                               \
    X(limited_inbound_packets, by_link_reader)                                                     \
    X(not_permitted_packets, by_link_reader)

/* A struct udp_address, in the words that it is written and read by. */
enum { ENDPOINT_WORDS = sizeof(struct udp_address) / sizeof(uint64_t) };

struct peer_outbound {
    alignas(64) _Atomic uint64_t sent_ns;      /* when anything was last sealed */
    _Atomic uint64_t sent_data_ns;             /* the same without keepalives */
    _Atomic uint64_t sealed;                   /* the next counter of the sending key */
    _Atomic uint64_t sealed_blocks;            /* by the tun-reader, under AES-256-GCM */
    _Atomic uint64_t no_session_packets;       /* dropped because the peer was not connected */
    _Atomic uint64_t limited_outbound_packets; /* dropped by its rate limit or quota */
};

struct peer_link {
    /* CLOCK_MONOTONIC: when the oldest frame was read that a full socket does not take; 0: none */
    alignas(64) _Atomic uint64_t waiting_since_ns;
    _Atomic uint64_t transmit_packets;
    _Atomic uint64_t transmit_bytes;
    _Atomic uint64_t dropped_packets; /* because it does not read */
    _Atomic uint64_t in_place_link;   /* id of the link that the tun-reader may write; 0: none */
};

struct peer_inbound {
    alignas(64) _Atomic uint64_t received_ns; /* when anything was last authenticated */
    _Atomic uint64_t received_data_ns;
    _Atomic uint64_t receive_packets;
    _Atomic uint64_t receive_bytes;
    _Atomic uint64_t limited_inbound_packets;
    _Atomic uint64_t not_permitted_packets;        /* dropped: to where the peer may not reach */
    alignas(64) _Atomic uint64_t endpoint_version; /* odd while the endpoint is being written */
    _Atomic uint64_t endpoint[ENDPOINT_WORDS];
};

/* A part a writer, on pages of its own: a worker maps the others read-only. Under the consumer's token
 * the tun-reader writes the link-writer's part (shared/token.h). */
struct peer_table {
    struct peer_outbound by_tun_reader[N_PEER_SLOTS];
    struct peer_link by_link_writer[N_PEER_SLOTS];
    struct peer_inbound by_link_reader[N_PEER_SLOTS];
};

_Static_assert(offsetof(struct peer_table, by_link_writer) % PART_BYTES == 0 &&
                   offsetof(struct peer_table, by_link_reader) % PART_BYTES == 0 &&
                   sizeof(struct peer_table) % PART_BYTES == 0,
               "a part is whole pages");

static inline void peer_set(_Atomic uint64_t *field, uint64_t value) {
    atomic_store_explicit(field, value, memory_order_relaxed);
}

/* link-reader */
void peer_write_endpoint(struct peer_inbound *peer, const struct udp_address *endpoint);
/* Any process: the endpoint if it is not the one of `version`, which is then updated. false: there
 * is nothing new, or none. */
bool peer_read_endpoint(const struct peer_inbound *peer, uint64_t *version,
                        struct udp_address *endpoint);

#endif
