/* link_writer: the state of the outbound direction's last worker, its links and its batch. */
#ifndef FASTUN_OUTBOUND_LINK_WRITER_H
#define FASTUN_OUTBOUND_LINK_WRITER_H

#include "loop/loop.h"
#include "loop/link_queue.h"
#include "outbound/drr.h"
#include "outbound/overtaking.h"
#include "outbound/path_queue.h"
#include "outbound/uplink.h"

/* The link to one peer: its stream, or where it is on UDP. */
struct writer_link {
    unsigned slot;
    int fd; /* -1 on UDP */
    uint32_t id;
    struct link_format format;
    bool has_ended; /* reported to the gateway; nothing is written any more */
    struct link_queue queue;

    /* on streams: stream_writer.c */
    bool is_full;      /* the socket has no room; epoll reports when it has */
    int broken;        /* the errno that ended it, not yet reported */
    uint64_t n_unsent; /* bytes that its socket had in the kernel when last looked at */
    uint32_t segment;  /* bytes of a full packet when peers began to take turns; 0: unknown */
    struct path_queue path;
    struct overtaking *overtaking; /* NULL on UDP */
    bool is_held;                  /* full, since it has enough on its way: stream_path.h */

    /* on UDP: datagram_writer.c */
    struct udp_address endpoint;
    uint64_t endpoint_version;
    bool is_too_long;             /* a datagram did not fit the path: to be reported */
    bool is_blocked;              /* its route leads into the tunnel: nothing is sent */
    struct refusals trains;       /* UDP_SEGMENT on the route to this peer */
    struct refusals datagrams;    /* what is dropped as not_sent or no_route */
    uint64_t sourceless_until_ns; /* until then no source address is set; 0: it is set */
};

enum { BATCH_RECORDS_MAX = 256 };

/* Records that are done, behind others that are not and come first to be released: where they end. */
struct written_early {
    uint64_t ends[BATCH_RECORDS_MAX];
    int n;
    uint64_t seen_end; /* up to there all were looked at */
};

/* Asked in the ring's order, with `*next` 0 at first. */
static inline bool early_has(const struct written_early *early, int *next, uint64_t end) {
    while (*next < early->n && early->ends[*next] < end)
        ++*next;
    return *next < early->n && early->ends[*next] == end;
}

/* The uplink that all share: fair_writer.c. */
struct fair {
    bool is_on; /* the kernel gets no more than it needs */
    struct drr drr;
    struct uplink uplink;
    uint64_t n_unsent;               /* bytes in the kernel, of all sockets */
    uint64_t n_unsent_of[N_SOCKETS]; /* of each that peers on UDP share */
    uint64_t n_bytes;                /* that were counted at the last look */
    uint64_t full_ns;                /* when the kernel last had as much as it may */
};

struct link_writer {
    struct loop loop; /* first: link_writer_of */
    struct writer_link *links[N_PEER_SLOTS];
    unsigned n_links;
    struct written_early early;
    struct loop_socket sockets[N_SOCKETS];
    struct queue_pool queue_pool; /* of the links' queues */
    unsigned n_full;              /* links that wait for room in their socket */
    unsigned n_held;              /* of them, those that are held */
    uint64_t resumed_ns;          /* when those were last tried without a report of room */
    unsigned n_broken;            /* links with an error that is not yet reported */
    unsigned n_too_long;          /* links with a datagram too long that is not yet reported */
    struct fair fair;
};

/* The records of the ring that one pass works on. */
struct batch {
    const struct ring_view *records[BATCH_RECORDS_MAX];
    /* Where each goes, looked up once; NULL: the link that it was made for is gone. */
    struct writer_link *links[BATCH_RECORDS_MAX];
    uint64_t ends[BATCH_RECORDS_MAX]; /* the ring's cursor behind each */
    bool is_done[BATCH_RECORDS_MAX];
    int n;
    bool has_flows; /* of some is known of which flow they are */
};

/* A copy of `common` begins it. NULL with errno set on failure. */
struct loop *link_writer_new(const struct loop *common);
void link_writer_free(struct link_writer *writer);
enum loop_end link_writer_loop(struct link_writer *writer);

/* Between two runs. Returns 0 or -errno. */
int link_writer_attach(struct link_writer *writer, unsigned slot, uint32_t link_id, int fd,
                       const struct link_format *format);
/* What is in the link's queue is dropped and counted. */
void link_writer_detach(struct link_writer *writer, unsigned slot);
/* A message of the gateway's: on a stream a handshake message, between two frames; on UDP a sealed
 * one. Returns 0 or -errno. */
int link_writer_send_message(struct link_writer *writer, unsigned slot, const uint8_t *message,
                             size_t length);

/* -- for stream_writer.c, datagram_writer.c and fair_writer.c -- */

/* The next records in the ring, and where they go. false: there is none. */
bool link_writer_gather(struct link_writer *writer, struct batch *batch);
/* Sleeps until the channel speaks, a full socket has room or the ring's eventfd, if that was prepared,
 * is written; at most for so long. */
enum step link_writer_poll(struct link_writer *writer, uint64_t timeout_ns);

/* Counts what has gone out, and what has not. */
void link_writer_sent(struct link_writer *writer, unsigned slot, uint32_t n_packets,
                      uint32_t n_bytes, uint64_t delay_ns);
void link_writer_dropped(struct link_writer *writer, unsigned slot, enum stats_drop reason,
                         uint32_t n_packets);
bool link_writer_has_report(const struct link_writer *writer);
/* The most urgent thing that there is for the gateway, of the first link that has it. */
enum step link_writer_report(struct link_writer *writer);
/* Has the gateway informed that the path to the peer takes less than was sent. */
void link_writer_note_too_long(struct link_writer *writer, struct writer_link *link);

/* NULL: it is another role's. */
static inline struct link_writer *link_writer_of(struct loop *loop) {
    return loop->role == ROLE_link_writer ? (struct link_writer *)(void *)loop : NULL;
}

#endif
