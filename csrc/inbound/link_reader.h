/* link_reader: the state of the inbound direction's first worker, its links and its sources. */
#ifndef FASTUN_INBOUND_LINK_READER_H
#define FASTUN_INBOUND_LINK_READER_H

#include "host/allowedips.h"
#include "inbound/handshake_in.h"
#include "loop/loop.h"
#include "loop/shaping.h"
#include "session/key_table.h"

struct datagram_batch;
struct reach;
struct switch_in;
struct pieces_in;

enum {
    /* Sources that one look finds readable; the others are found by the next. */
    READY_MAX = 64,
    /* The stream bytes that one read may take; at least one longest message. */
    RX_BUFFER_LENGTH = 256 * 1024,
};

/* The stream to one peer. On UDP peers need none. */
struct reader_link {
    int fd;
    uint32_t id;
    struct link_format format;
    bool has_ended;     /* reported to the gateway; nothing is read any more */
    uint8_t *rx_buffer; /* bytes from the stream that are not yet a whole message */
    size_t rx_start, rx_end;
};

struct link_reader {
    struct loop loop; /* first: link_reader_of */
    struct reader_link *links[N_PEER_SLOTS];
    struct loop_socket sockets[N_SOCKETS];
    struct epoll_event ready[READY_MAX]; /* sources that can be read, from next_ready on */
    int n_ready, next_ready;
    int undrained_source; /* has messages that were read and not forwarded: a slot or a SOURCE_ */
    struct allowedips *allowed_ips;
    size_t mss_mtu; /* TCP is to fit this; 0: as it likes */
    struct key_table *keys;
    struct datagram_batch *datagrams;
    struct link_format udp_formats[2]; /* of what came whole; of what is joined from pieces */
    unsigned device_index;             /* the device's interface index; 0: unknown */
    struct udp_address *endpoints;     /* by slot: what the peer table has */
    uint64_t controls_full_at_ns[N_PEER_SLOTS]; /* token buckets of control messages */
    struct handshakes handshakes;
    struct shaping shaping;              /* peers with a rate limit */
    struct reach *reaches[N_PEER_SLOTS]; /* where each may send to; NULL: anywhere */
    struct switch_in *switch_in;         /* NULL: there is no switch */
    struct pieces_in *pieces;            /* NULL: the wire is not sealed */
};

/* link_reader.undrained_source, where it is not a slot */
enum { SOURCE_NONE = -1, SOURCE_DATAGRAMS = N_PEER_SLOTS };

/* A copy of `common` begins it. NULL with errno set on failure. */
struct loop *link_reader_new(const struct loop *common);
void link_reader_free(struct link_reader *reader);
enum loop_end link_reader_loop(struct link_reader *reader);

/* Between two runs. Returns 0 or -errno. */
int link_reader_attach(struct link_reader *reader, unsigned slot, uint32_t link_id, int fd,
                       const struct link_format *format);
void link_reader_detach(struct link_reader *reader, unsigned slot);
/* The slot's peer leaves it: what has come from it and waits, and its addresses of a switch, are not
 * the next one's there. */
void link_reader_forget_peer(struct link_reader *reader, unsigned slot);
/* Where the peer is on UDP, for the link-writer to read. */
void link_reader_set_endpoint(struct link_reader *reader, unsigned slot,
                              const struct udp_address *endpoint);

/* 0: the peer has no stream; a session on UDP needs none. */
uint32_t link_reader_link_id(const struct link_reader *reader, unsigned slot);

/* NULL: it is another role's. */
static inline struct link_reader *link_reader_of(struct loop *loop) {
    return loop->role == ROLE_link_reader ? (struct link_reader *)(void *)loop : NULL;
}

#endif
