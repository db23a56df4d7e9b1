/* stats: what every worker counts, in shared memory, read by the gateway at scrape time.
 *
 * One block a worker, written by that worker alone, so a plain load-add-store is enough; relaxed
 * atomics keep a reader in another process from seeing torn values. A block outlives the worker:
 * its successor counts on, so the figures never go back.
 *
 * The lists below are the only place where a counter, a system call or a drop reason is named; the
 * metrics take names and help texts from here.
 *
 * Accounting: a reader role (tun-reader, link-reader) counts what it took in, dropped or not; a
 * writer role (link-writer, tun-writer) counts what it delivered. At rest, in each direction:
 *     taken in by the reader = delivered by the writer + drops of both.
 */
#ifndef FASTUN_SHARED_STATS_H
#define FASTUN_SHARED_STATS_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/shared_memory.h"

/* role, its name on the outside */
#define STATS_ROLES(X)                                                                             \
    X(tun_reader, "tun-reader")                                                                    \
    X(link_writer, "link-writer")                                                                  \
    X(link_reader, "link-reader")                                                                  \
    X(tun_writer, "tun-writer")

#define STATS_COUNTERS(X)                                                                          \
    X(packets)          /* as the network counts: a super-packet of 40 segments counts 40 */       \
    X(frames)           /* as the device gives or takes them: a super-packet counts 1 */           \
    X(bytes)            /* of packets or Ethernet frames, without any header of ours */            \
    X(refused_offloads) /* trains and super-packets that the kernel refused; they went singly */   \
    X(ecn_marked)       /* packets marked CE: tun-reader, by CoDel; link-reader, by the path */    \
    X(switched)         /* link-reader: packets for other peers, not for the device */             \
    X(in_place)         /* readers: packets that they gave out themselves, their writer asleep */  \
    X(mac_moves) /* addresses that were seen behind another peer, or no longer behind one */       \
    X(crossed)   /* tun-reader: packets for another lane, which takes them in again */             \
    X(answers)   /* tun-reader: ICMP errors that it wrote to the device */

#define STATS_CALLS(X)                                                                             \
    X(read)                                                                                        \
    X(write)                                                                                       \
    X(recvmsg)                                                                                     \
    X(writev)                                                                                      \
    X(recvmmsg)                                                                                    \
    X(sendmmsg)                                                                                    \
    X(sendmsg)                                                                                     \
    X(getrandom)                                                                                   \
    X(ppoll)                                                                                       \
    X(epoll_wait)                                                                                  \
    X(futex_wait)                                                                                  \
    X(futex_wake)

/* role, reason, help */
#define STATS_DROPS(X)                                                                             \
    X(tun_reader, not_ip, "the device gave something that is neither IPv4 nor IPv6")               \
    X(tun_reader, bad_virtio, "the kernel's offload header does not fit its packet")               \
    X(tun_reader, exceeds_message_max, "the frame is longer than the wire allows")                 \
    X(tun_reader, no_peer, "no peer has the destination among its allowed IPs")                    \
    X(tun_reader, no_session, "the peer of the destination is not connected")                      \
    X(tun_reader, queue_delay, "dropped by CoDel: queueing delay above target")                    \
    X(tun_reader, exceeds_path_mtu, "longer than the path's MTU to the peer; answered by ICMP")    \
    X(tun_reader, exceeds_path_mtu_unanswered,                                                     \
      "as exceeds_path_mtu, but without an ICMP answer: its limit was reached")                    \
    X(tun_reader, link_ended, "the peer's link ended while its super-packet was being split")      \
    X(tun_reader, own_packet, "a packet of fastun's own: its route leads into the tunnel")         \
    X(tun_reader, rate_limit, "above the rate limit of the peer, and its queue is full")           \
    X(tun_reader, quota, "the peer has used up its quota of the month")                            \
    X(tun_reader, flood_limit, "for all peers of a TAP device, more often than the limit")         \
    X(tun_reader, lane_full, "for a peer of another lane, and the ring to that lane is full")      \
    X(tun_reader, ring_corrupt, "a ring between peers or lanes held an impossible record")         \
    X(tun_reader, worker_died, "taken in by a worker that was killed before it passed it on")      \
    X(link_writer, no_link, "no peer was connected for longer than a packet may wait")             \
    X(link_writer, link_full, "the peer's queue is full: it does not read, or the uplink is full") \
    X(link_writer, link_ended, "the link ended with the packet in its queue")                      \
    X(link_writer, emsgsize, "the datagram did not fit the path's MTU")                            \
    X(link_writer, no_route, "this host has no route to the peer's address")                       \
    X(link_writer, not_sent, "this host refused to send the datagram; most often its firewall")    \
    X(link_writer, inside_tunnel, "the route to the peer leads into the tunnel itself")            \
    X(link_writer, ring_corrupt, "the outbound ring held an impossible record and was emptied")    \
    X(link_writer, worker_died, "in a link's queue when the worker was killed")                    \
    X(link_reader, bad_length, "a length prefix of 0 or over the limit; the link is closed")       \
    X(link_reader, truncated, "the stream ended inside a frame")                                   \
    X(link_reader, bad_type, "a message type that this side did not offer")                        \
    X(link_reader, not_ip, "the payload is neither IPv4 nor IPv6, or no whole Ethernet header")    \
    X(link_reader, bad_virtio, "the peer's offload header does not fit its packet")                \
    X(link_reader, amplifies,                                                                      \
      "a super-packet that would expand to over twice its size or has IPv6 extensions")            \
    X(link_reader, unknown_index, "a data message for a session that is not or no longer here")    \
    X(link_reader, bad_tag, "a data message that does not open: tampered with, or a wrong key")    \
    X(link_reader, replayed, "a data message whose counter was used before or is too old")         \
    X(link_reader, bad_mac1, "invalid mac1: the sender does not know our public key")              \
    X(link_reader, handshake_flood, "a handshake message on UDP from a source with too many")      \
    X(link_reader, cookie_sent, "a handshake message on UDP that was answered with a cookie")      \
    X(link_reader, cookie_not_sent, "a handshake message whose cookie the network refused")        \
    X(link_reader, cookie_unasked, "a cookie reply on UDP that we did not ask for")                \
    X(link_reader, control_flood, "a control message on UDP from a peer with too many")            \
    X(link_reader, gateway_busy, "a message for the gateway, which has too many waiting")          \
    X(link_reader, bad_source, "the inner source address does not belong to the peer")             \
    X(link_reader, bad_piece, "a piece that does not fit its own header")                          \
    X(link_reader, piece_lost, "a frame or super-packet of which a piece did not come")            \
    X(link_reader, mac_moves, "the source address moves between peers more often than the limit")  \
    X(link_reader, reserved_group, "for bridges alone (01:80:c2:00:00:0X), not for other peers")   \
    X(link_reader, flood_limit, "for all other peers of a TAP device, more often than the limit")  \
    X(link_reader, same_peer, "for an address that is behind its sender itself")                   \
    X(link_reader, hairpin_full, "for another peer of a TAP device, and the ring to it is full")   \
    X(link_reader, inside_tunnel, "a datagram that arrived through the tunnel itself")             \
    X(link_reader, no_sender, "a datagram from port 0 or no address, where nothing can be sent")   \
    X(link_reader, not_ecn_capable,                                                                \
      "the path is congested (outer CE), and the packet's sender does not understand marks")       \
    X(link_reader, not_permitted, "to a destination that the peer may not reach")                  \
    X(link_reader, rate_limit, "above the rate limit of the peer, and its queue is full")          \
    X(link_reader, quota, "the peer has used up its quota of the month")                           \
    X(link_reader, worker_died, "taken in by a worker that was killed before it passed it on")     \
    X(tun_writer, device_refused, "the kernel refused the frame (EINVAL)")                         \
    X(tun_writer, device_down, "the device was not up")                                            \
    X(tun_writer, device_full, "the kernel had no memory or room for the frame")                   \
    X(tun_writer, ring_corrupt, "the inbound ring held an impossible record and was emptied")      \
    X(tun_writer, worker_died, "being written when the worker was killed; perhaps it was")

enum stats_role {
#define X(role, name) ROLE_##role,
    STATS_ROLES(X)
#undef X
        N_ROLES
};

enum stats_counter {
#define X(counter) COUNTER_##counter,
    STATS_COUNTERS(X)
#undef X
        N_COUNTERS
};

enum stats_call {
#define X(call) CALL_##call,
    STATS_CALLS(X)
#undef X
        N_CALLS
};

enum stats_drop {
#define X(role, reason, help) DROP_##role##_##reason,
    STATS_DROPS(X)
#undef X
        N_DROPS
};

/* Histogram buckets hold powers of two: bucket i counts values in (2^(i-1), 2^i], the last one
 * everything above. Frames in a batch: 1 .. 512. Queue delay: 1 us .. 2 s. */
enum { N_BATCH_BUCKETS = 11, N_DELAY_BUCKETS = 23 };

struct stats_block {
    alignas(64) _Atomic uint64_t counters[N_COUNTERS];
    _Atomic uint64_t drops[N_DROPS];
    _Atomic uint64_t calls[N_CALLS];
    _Atomic uint64_t batch_frames[N_BATCH_BUCKETS];
    _Atomic uint64_t batch_frames_sum;
    _Atomic uint64_t queue_delay[N_DELAY_BUCKETS];
    _Atomic uint64_t queue_delay_sum_ns;
    /* The number of the system call that broke the worker's filter, and 1; 0: none did. */
    _Atomic uint64_t forbidden_call;
};

/* The memory of one lane: a block a role, on pages of its own, which others map read-only. Under the
 * consumer's token a reader writes its writer's block (shared/token.h). */
union stats_part {
    struct stats_block block;
    uint8_t pages[PART_BYTES]; /* not alignas: a mapping is aligned to this kernel's pages only */
};

struct stats {
    union stats_part parts[N_ROLES];
};

static inline void stats_add(_Atomic uint64_t *counter, uint64_t n) {
    uint64_t now = __atomic_load_n((uint64_t *)counter, __ATOMIC_RELAXED);
    __atomic_store_n((uint64_t *)counter, now + n, __ATOMIC_RELAXED);
}

static inline void stats_call(struct stats_block *stats, enum stats_call call) {
    stats_add(&stats->calls[call], 1);
}

static inline void stats_count(struct stats_block *stats, uint64_t n_packets, uint64_t n_bytes) {
    stats_add(&stats->counters[COUNTER_packets], n_packets);
    stats_add(&stats->counters[COUNTER_frames], 1);
    stats_add(&stats->counters[COUNTER_bytes], n_bytes);
}

static inline void stats_dropped(struct stats_block *stats, enum stats_drop drop,
                                 uint64_t n_packets) {
    stats_add(&stats->drops[drop], n_packets);
}

/* From a signal handler: the call of this number was not allowed. */
static inline void stats_forbidden(struct stats_block *stats, uint32_t call) {
    __atomic_store_n((uint64_t *)&stats->forbidden_call, (uint64_t)call + 1, __ATOMIC_RELAXED);
}

void stats_batch(struct stats_block *stats, uint64_t n_frames);
void stats_queue_delay(struct stats_block *stats, uint64_t delay_ns);

#endif
