/* link_writer: the state of the outbound direction's last worker, its links and its batch. */
#ifndef FASTUN_OUTBOUND_LINK_WRITER_H
#define FASTUN_OUTBOUND_LINK_WRITER_H

#include "loop/loop.h"
#include "loop/link_queue.h"

/* The link to one peer: its stream, or where it is on UDP. */
struct writer_link {
    unsigned slot;
    int fd; /* -1 on UDP */
    uint32_t id;
    struct link_format format;
    bool has_ended; /* reported to the gateway; nothing is written any more */

    /* on streams: stream_writer.c */
    struct link_queue queue;
    bool is_full; /* the socket has no room; epoll reports when it has */
    int broken;   /* the errno that ended it, not yet reported */

    /* on UDP: datagram_writer.c */
    struct udp_address endpoint;
    uint64_t endpoint_version;
    bool is_too_long;             /* a datagram did not fit the path: to be reported */
    bool is_blocked;              /* its route leads into the tunnel: nothing is sent */
    struct refusals trains;       /* UDP_SEGMENT on the route to this peer */
    uint64_t sourceless_until_ns; /* until then no source address is set; 0: it is set */
};

struct link_writer {
    struct loop loop; /* first: link_writer_of */
    struct writer_link *links[N_PEER_SLOTS];
    unsigned n_links;
    struct loop_socket sockets[N_SOCKETS];
    struct queue_pool queue_pool; /* of the links' queues */
    unsigned n_full;              /* links that wait for room in their socket */
    unsigned n_broken;            /* links with an error that is not yet reported */
    unsigned n_too_long;          /* links with a datagram too long that is not yet reported */
};

enum { BATCH_RECORDS_MAX = 256 };

/* The records of the ring that one pass works on. */
struct batch {
    const struct ring_view *records[BATCH_RECORDS_MAX];
    /* Where each goes, looked up once; NULL: the link that it was made for is gone. */
    struct writer_link *links[BATCH_RECORDS_MAX];
    uint64_t ends[BATCH_RECORDS_MAX]; /* the ring's cursor behind each */
    bool is_done[BATCH_RECORDS_MAX];
    int n;
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

/* -- for stream_writer.c and datagram_writer.c -- */

/* Counts what has gone out, and what has not. */
void link_writer_sent(struct link_writer *writer, unsigned slot, uint32_t n_packets,
                      uint32_t n_bytes, uint64_t delay_ns);
void link_writer_dropped(struct link_writer *writer, unsigned slot, enum stats_drop reason,
                         uint32_t n_packets);
/* Has the gateway informed that the path to the peer takes less than was sent. */
void link_writer_note_too_long(struct link_writer *writer, struct writer_link *link);

/* NULL: it is another role's. */
static inline struct link_writer *link_writer_of(struct loop *loop) {
    return loop->role == ROLE_link_writer ? (struct link_writer *)(void *)loop : NULL;
}

#endif
