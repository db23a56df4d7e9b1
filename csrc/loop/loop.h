/* loop: what the four workers' loops have in common.
 *
 *   outbound   device --> tun_reader_loop --[ring]--> link_writer_loop --> sockets
 *   inbound    device <-- tun_writer_loop <--[ring]-- link_reader_loop <-- sockets
 *
 * Each loop runs in a process of its own with the GIL released, and returns only when Python has
 * something to do. In a loop there is no allocation and no logging; every frame that is dropped is
 * counted with a reason.
 *
 * Each role has a state of its own, which begins with a struct loop and lies in the role's folder:
 * outbound/tun_reader.h, outbound/link_writer.h, inbound/link_reader.h, inbound/tun_writer.h. There
 * are also the links, one a peer, as that role sees them. They are made and freed between two runs.
 */
#ifndef FASTUN_LOOP_LOOP_H
#define FASTUN_LOOP_LOOP_H

#include <sys/epoll.h>

#include "fastun.h"
#include "loop/capture.h"
#include "loop/refusals.h"
#include "packet/encapsulation.h"
#include "shared/mac_table.h"
#include "shared/pace.h"
#include "shared/peer_table.h"
#include "shared/ring.h"
#include "shared/stats.h"

/* A UDP socket, which all peers on UDP share. */
struct loop_socket {
    int fd;           /* -1: none */
    int family;       /* AF_INET or AF_INET6 */
    bool has_offload; /* the kernel supports UDP_SEGMENT */
};

struct loop {
    enum stats_role role;
    enum wire wire;
    enum mode mode;
    struct ring *ring;
    struct waiter *self; /* this worker's side of the ring: where its bell hangs */
    struct stats_block *stats;
    struct stats_block
        *neighbour_stats; /* of a reader, its writer's: counted under the token only */
    struct peer_table *peers;
    struct mac_table *macs; /* link-reader and tun-reader of a switch; else NULL, and so is */
    struct ring *hairpin;   /* what goes from peer to peer */
    int device_fd;
    int channel_fd;
    int epoll_fd;               /* the channel; in link-writer and link-reader also the links */
    int error;                  /* the errno behind the last LOOP_DEVICE_GONE */
    uint64_t n_counted_already; /* writers: packets in the ring that a predecessor counted */
    unsigned n_news;            /* writers: offloads turned off or on, not yet reported */
    struct capture *capture;    /* NULL: nothing is captured */
    bool hands_over;            /* readers do their sleeping writers' steps (shared/token.h), */
    struct ring writers_end;    /* with this handle while they hold the token */
    struct loop_event event;
};

/* What comes next: each step returns it, from one read or write up to the loop. */
enum step {
    STEP_MORE,        /* go on */
    STEP_IDLE,        /* nothing to do: wait */
    STEP_RING_FULL,   /* go on with the same as soon as the ring has room */
    STEP_EVENT,       /* loop->event is for the gateway; afterwards go on */
    STEP_LINK_ENDED,  /* the same, and it says why the link has ended: nothing more comes of it */
    STEP_DOORBELL,    /* the gateway has something to say */
    STEP_DEVICE_GONE, /* loop->error has the errno */
};

static inline enum step step_after_wait(enum wait_end end) {
    return end == WAIT_READY ? STEP_MORE : STEP_DOORBELL;
}

/* Writers: sleeps until there is a record, and lends the token meanwhile. Not with work of its own
 * left: what waits in queues, or is to be reported. */
enum step loop_wait_record(struct loop *loop);

/* What a loop returns when it does not go on. */
enum loop_end loop_end_of(enum step step);

/* What travels with a frame or message from the read into the ring. The times are read once for
 * many. */
struct arrival {
    int slot; /* of the peer that it goes to or came from; -1: unknown yet */
    const struct udp_address *endpoint; /* inbound on UDP: where it came from; else NULL */
    uint64_t now_ns;                    /* CLOCK_MONOTONIC */
    uint64_t boottime_ns;               /* CLOCK_BOOTTIME */
    enum ecn ecn;                       /* inbound on UDP: of its outer header */
};

/* The link's format, with no longer messages than the wire can carry. */
struct link_format loop_bounded_format(const struct loop *loop, const struct link_format *format);

/* epoll's user data: a link's slot or one of these. */
enum { POLL_CHANNEL = N_PEER_SLOTS, POLL_RING, POLL_SOCKET /* and its index */ };

/* Returns 0 or -errno. */
int loop_watch(const struct loop *loop, int fd, uint32_t events, uint32_t what);
/* The descriptor may be closed already, or have been removed before. */
void loop_unwatch(const struct loop *loop, int fd);

/* Fills in loop->event, but not its index, bytes and endpoint; returns STEP_EVENT. */
enum step loop_report(struct loop *loop, unsigned slot, uint32_t link_id, enum event_kind kind,
                      int error);

/* Writers: an offload was turned off or on for a peer; loop_report_news reports one of them. */
void loop_note_news(struct loop *loop, struct refusals *refusals);
enum step loop_report_news(struct loop *loop, unsigned slot, uint32_t link_id,
                           struct refusals *refusals, enum refusal_kind kind);

uint64_t clock_now_ns(void);
uint64_t clock_boottime_ns(void);

#endif
