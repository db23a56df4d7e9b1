/* datagram_peers: a link-writer with a UDP socket, and several peers on loopback that take what it
 * sends.
 *
 * Every datagram names its peer and its number and is filled from them. A peer's socket joins
 * datagrams (UDP_GRO), so it sees a train as it was sent. The loop runs in a thread, and is at
 * rest between two runs.
 */
#ifndef DATAGRAM_PEERS_H
#define DATAGRAM_PEERS_H

#include "worker_thread.h"

enum { N_DATAGRAM_PEERS = 4, DATAGRAM_MIN = 5 /* slot u8, number u32 */ };

struct datagram_peer {
    int fd;
    struct udp_address endpoint;
    uint32_t n_published, n_received; /* datagrams */
};

struct datagram_peers {
    struct lane_memory lane;
    struct worker_thread worker;
    int socket;
    struct datagram_peer peers[N_DATAGRAM_PEERS];
    struct loop_event events[16];
    size_t n_events;
};

extern struct datagram_peers datagram_peers;

/* `family` AF_INET, or AF_INET6 with the peers on ::1. */
void datagram_peers_open(int family, bool has_offload);
void datagram_peers_close(void);

/* A record of `n` datagrams, all of `size` bytes but the last. n 1: SEGMENT_WHOLE. Each is a
 * packet. Not yet published. */
struct ring_record *datagrams_commit(unsigned slot, unsigned n, size_t size, size_t last);
/* One datagram that may be fragmented. */
void datagram_commit_fragments(unsigned slot, size_t size);
/* Publishes what was committed and lets the loop pass it on. Events are kept. */
void datagram_peers_run(void);

/* What one call of the peer gives: bytes, 0 when there is nothing; *n_datagrams are in it. Checks
 * them: numbers may be left out, for what was dropped, but go up. */
size_t datagram_peer_receive(unsigned slot, unsigned *n_datagrams);
/* All there is. Returns the number of datagrams. */
unsigned datagram_peer_receive_all(unsigned slot);

uint64_t datagram_peers_dropped(enum stats_drop drop);
/* published = sent + dropped, by peer and in all; the peers have what was sent. */
void datagram_peers_check_balance(void);

#endif
