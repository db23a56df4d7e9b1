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
#ifndef FASTUN_LOOP_H
#define FASTUN_LOOP_H

#include "allowedips.h"
#include "device.h"
#include "fastun.h"
#include "link_queue.h"
#include "message.h"
#include "peer_table.h"
#include "ring.h"
#include "session.h"
#include "stats.h"

enum {
    /* WireGuard's previous, current and next. */
    N_RECEIVING_KEYS = 3,
    /* The stream bytes that one read may take; at least one longest message. */
    STAGING_LENGTH = 256 * 1024,
};

/* The link to one peer, as one worker sees it. */
struct loop_link {
    int fd; /* -1 in the tun-reader, which knows only the format */
    uint32_t id;
    struct link_format format;
    bool is_over; /* reported to Python; nothing is read or written any more */

    /* tun-reader */
    struct sending_key *sending;

    /* link-writer */
    struct link_queue queue;
    bool is_full; /* the socket has no room; epoll tells when it has */
    int broken;   /* the errno that ended it, not yet reported */

    /* link-reader */
    uint8_t *staging; /* bytes from the stream that are not yet a whole message */
    size_t staging_start, staging_end;
    struct receiving_key *receiving[N_RECEIVING_KEYS];
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
    int epoll_fd; /* link-writer and link-reader: the channel and the links */
    int error;    /* the errno behind the last LOOP_DEVICE_GONE */
    struct loop_event event;

    struct loop_link *links[N_PEER_SLOTS];
    unsigned n_links;
    struct allowedips *allowed_ips;

    unsigned n_full;         /* link-writer: links that wait for room in their socket */
    unsigned n_broken;       /* link-writer: links with an error that is not yet reported */
    int unparsed_slot;       /* link-reader: its staging holds whole messages, the ring was full */
    uint64_t icmp_tokens_ns; /* tun-reader: when the next ICMP answer may be sent */
    bool holds;              /* tun-reader: waits for a session before it reads and drops */
    uint64_t held_since_ns;  /* 0: it does not wait now */

    /* tun-writer */
    enum device_offload coalesce; /* which packets may be put together */
    unsigned n_refusals[2];       /* super-packets so made that were refused in a row: TCP, UDP */
};

enum loop_end tun_reader_loop(struct loop *loop);
enum loop_end link_writer_loop(struct loop *loop);
enum loop_end link_reader_loop(struct loop *loop);
enum loop_end tun_writer_loop(struct loop *loop);

/* link-writer, when a link goes: what is in its queue is dropped and counted. */
void link_writer_forget(struct loop *loop, unsigned slot);

/* Fills in loop->event about a link, marks it as over where it is, and returns LOOP_EVENT. */
enum loop_end loop_report(struct loop *loop, unsigned slot, enum event_kind kind, int error);

/* epoll's user data of what is no link. */
enum { POLL_CHANNEL = N_PEER_SLOTS, POLL_RING };

uint64_t clock_now_ns(void);
uint64_t clock_boottime_ns(void);

#endif
