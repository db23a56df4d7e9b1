/* loop: what the four workers' loops have in common.
 *
 *   outbound   device --> tun_reader_loop --[ring]--> link_writer_loop --> sockets
 *   inbound    device <-- tun_writer_loop <--[ring]-- link_reader_loop <-- sockets
 *
 * Each loop runs in a process of its own with the GIL released, and returns only when Python has
 * something to do. In a loop there is no allocation and no logging; every frame that is not passed
 * on is counted with a reason. What a peer has (link, keys) hangs at its slot and is made and
 * unmade between two runs.
 */
#ifndef FASTUN_LOOP_LOOP_H
#define FASTUN_LOOP_LOOP_H

#include <sys/epoll.h>

#include "host/allowedips.h"
#include "outbound/answer_limit.h"
#include "outbound/codel.h"
#include "inbound/datagram_batch.h"
#include "host/device.h"
#include "fastun.h"
#include "inbound/handshake_gate.h"
#include "session/key_table.h"
#include "outbound/link_queue.h"
#include "packet/encapsulation.h"
#include "outbound/own_packets.h"
#include "shared/peer_table.h"
#include "loop/refusals.h"
#include "shared/ring.h"
#include "session/session.h"
#include "outbound/parking.h"
#include "shared/stats.h"

enum {
    /* UDP sockets of a lane: one an address that is listened on. */
    N_SOCKETS = 16,
    /* Sources that one look finds readable; the others are found by the next. */
    READY_MAX = 64,
    /* The stream bytes that one read may take; at least one longest message. */
    STAGING_LENGTH = 256 * 1024,
};

/* A UDP socket, which all peers on UDP share. */
struct loop_socket {
    int fd;
    int family;       /* AF_INET or AF_INET6 */
    bool has_offload; /* the kernel supports UDP_SEGMENT */
};

/* The link to one peer, as one worker sees it. */
struct loop_link {
    int fd; /* -1 in the tun-reader, which knows only the format, and on UDP */
    uint32_t id;
    struct link_format format;
    bool is_over; /* reported to Python; nothing is read or written any more */

    /* tun-reader */
    struct sending_key *sending;
    struct codel codel;
    size_t path_mtu; /* longer packets do not fit the path; 0: any fit */
    size_t whole;    /* longer packets go without "don't fragment"; 0: none do */

    /* link-writer, on UDP */
    struct udp_address endpoint;
    uint64_t endpoint_version;
    bool is_too_long;             /* a datagram did not fit the path: to be reported */
    bool is_blocked;              /* its route leads into the tunnel: nothing is sent */
    struct refusals trains;       /* UDP_SEGMENT on the route to this peer */
    uint64_t sourceless_until_ns; /* until then no source address is set; 0: it is set */

    /* link-writer, on streams */
    struct link_queue queue;
    bool is_full; /* the socket has no room; epoll tells when it has */
    int broken;   /* the errno that ended it, not yet reported */

    /* link-reader */
    uint8_t *staging; /* bytes from the stream that are not yet a whole message */
    size_t staging_start, staging_end;
};

struct loop {
    enum stats_role role;
    enum wire wire;
    enum mode mode;
    struct ring *ring;
    struct waiter *self; /* this worker's side of the ring: where its bell hangs */
    struct stats_block *stats;
    struct peer_table *peers;
    int device_fd;
    int channel_fd;
    int epoll_fd;               /* link-writer and link-reader: the channel and the links */
    int error;                  /* the errno behind the last LOOP_DEVICE_GONE */
    uint64_t n_counted_already; /* writers: packets in the ring that a predecessor counted */
    struct loop_event event;

    struct loop_link *links[N_PEER_SLOTS];
    unsigned n_links;
    unsigned last_slot; /* slot of the last attached link: the one peer of a TAP device */
    struct allowedips *allowed_ips;
    size_t mss_mtu; /* tun-reader and link-reader: TCP is to fit this; 0: as it likes */
    struct loop_socket sockets[N_SOCKETS]; /* link-reader and link-writer; fd -1: none */

    struct queue_pool queue_pool; /* link-writer: of its links' queues */
    unsigned n_full;              /* link-writer: links that wait for room in their socket */
    unsigned n_broken;            /* link-writer: links with an error that is not yet reported */
    unsigned n_too_long; /* link-writer: links with a datagram too long that is not reported */
    unsigned n_news;     /* writers: offloads turned off or on that are not yet reported */
    struct answer_limit answers; /* tun-reader: which packets ICMP answers */
    bool keeps_all;              /* tun-reader: drops nothing for its delay; for tests that count */
    bool holds;                  /* tun-reader: waits for a session before it reads and drops */
    uint64_t held_since_ns;      /* 0: it does not wait now */
    struct splitting *splitting; /* tun-reader: the frame that is being split */
    struct own_packets *own_packets;  /* tun-reader: recognises our own outer packets */
    struct staging *staging;          /* tun-reader: frames that wait for a session */
    int wanted_slot;                  /* tun-reader: needs a session, to be reported; -1: none */
    uint64_t wanted_ns[N_PEER_SLOTS]; /* when that was last reported */

    /* link-reader */
    struct epoll_event ready[READY_MAX]; /* sources that can be read, from next_ready on */
    int n_ready, next_ready;
    int unpassed_source; /* has messages that were read and not passed on: a slot or a SOURCE_ */
    struct key_table *keys;
    struct datagrams *datagrams;
    unsigned device_index;         /* the device's interface index; 0: unknown */
    struct udp_address *endpoints; /* by slot: what the peer table has */
    struct handshake_gate gate;
    uint32_t awaited_index[N_PEER_SLOTS]; /* of our last initiation to each; 0: none */
    /* Buckets of tokens, which outlive links and sessions. */
    uint64_t controls_full_at_ns[N_PEER_SLOTS];
    uint64_t replies_full_at_ns[N_PEER_SLOTS];
    uint64_t handshakes_full_at_ns[N_PEER_SLOTS]; /* of those on streams */
    struct link_format datagram_format;

    /* tun-writer */
    enum device_offload coalesce;            /* which packets may be put together */
    struct refusals groups[N_PEER_SLOTS][2]; /* super-packets from them, by sender: TCP, UDP */
};

enum loop_end tun_reader_loop(struct loop *loop);
enum loop_end link_writer_loop(struct loop *loop);
enum loop_end link_reader_loop(struct loop *loop);
enum loop_end tun_writer_loop(struct loop *loop);

/* link-writer, when a link goes: what is in its queue is dropped and counted. */
void link_writer_forget(struct loop *loop, unsigned slot);

/* The tun-reader's own (frame.h). */
struct splitting *splitting_new(void);
void splitting_free(struct splitting *splitting);

/* Writers: an offload was turned off or on for a peer; loop_report_news reports one of them. */
void loop_note_news(struct loop *loop, struct refusals *refusals);
enum loop_end loop_report_news(struct loop *loop, unsigned slot, struct refusals *refusals,
                               enum offload_kind kind);

/* Fills in loop->event about a link, marks it as over where it is, and returns LOOP_EVENT. */
enum loop_end loop_report(struct loop *loop, unsigned slot, enum event_kind kind, int error);

/* epoll's user data of what is no link. */
enum { POLL_CHANNEL = N_PEER_SLOTS, POLL_RING, POLL_SOCKET /* and its index */ };

/* loop->unpassed_source, where it is no slot */
enum { SOURCE_NONE = -1, SOURCE_DATAGRAMS = N_PEER_SLOTS };

uint64_t clock_now_ns(void);
uint64_t clock_boottime_ns(void);

#endif
