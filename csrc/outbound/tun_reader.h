/* tun_reader: the state of the outbound direction's first worker, and its links. */
#ifndef FASTUN_OUTBOUND_TUN_READER_H
#define FASTUN_OUTBOUND_TUN_READER_H

#include "host/allowedips.h"
#include "loop/loop.h"
#include "loop/shaping.h"
#include "outbound/answer_limit.h"
#include "outbound/codel.h"
#include "outbound/train_fill.h"
#include "session/session.h"

struct crossing;
struct splitting;
struct flooding;
struct own_packets;
struct parking;

/* The link to one peer: what frames for it are made into, and whether they fit. */
struct tun_reader_link {
    uint32_t id;
    struct link_format format;
    struct sending_key *sending; /* NULL: there is no session */
    struct codel codel;
    bool has_waited;   /* for its stream: the link-writer wants to know its flows */
    size_t packet_max; /* longer packets do not fit the path; 0: any fit */
    size_t whole_max;  /* longer packets go without "don't fragment"; 0: none do */

    /* what the link-writer's step needs: send_in_place.c */
    int fd;                      /* of its stream; -1: none */
    struct udp_address endpoint; /* on UDP */
    uint64_t endpoint_version;
    uint64_t paused_until_ns; /* CLOCK_MONOTONIC: the kernel refuses datagrams */
};

/* Whether it waits for a session before it reads and drops. */
struct device_hold {
    bool is_wanted;
    uint64_t since_ns; /* when the first frame found no session; 0: none has */
};

/* The peer that needs a session, to be reported. */
struct wanted_session {
    int slot;                           /* -1: none */
    uint64_t reported_ns[N_PEER_SLOTS]; /* when it was last */
};

struct tun_reader {
    struct loop loop; /* first: tun_reader_of */
    struct tun_reader_link *links[N_PEER_SLOTS];
    unsigned n_links;
    unsigned last_slot; /* slot of the last attached link: the one peer of an unsealed wire */
    struct allowedips *allowed_ips;
    struct loop_socket sockets[N_SOCKETS]; /* as the link-writer's */
    size_t mss_mtu;                        /* TCP is to fit this; 0: as it likes */
    struct answer_limit answers;           /* which packets ICMP answers */
    bool keeps_all;                        /* of all, in order: for tests that count */
    struct device_hold hold;
    struct sending_counters *sending; /* NULL: the wire is not sealed */
    struct splitting *splitting;      /* the frame that is being split */
    struct train_fill train_fill;     /* by the last record */
    struct flooding *flooding;        /* the frame that goes to all peers; NULL: no switch */
    struct crossing *crossing;        /* to and from other lanes; NULL: there is one */
    int origin;                       /* slot of the frame's sender, -1: the device */
    struct own_packets *own_packets;  /* recognises our own outer packets */
    struct parking *parking;          /* frames that wait for a session */
    struct shaping shaping;           /* peers with a rate limit */
    struct wanted_session wanted;
};

/* A copy of `common` begins it. NULL with errno set on failure. */
struct loop *tun_reader_new(const struct loop *common);
void tun_reader_free(struct tun_reader *reader);
enum loop_end tun_reader_loop(struct tun_reader *reader);

/* Room for the next frame, FRAME_SPACE, when all before it is in the ring. NULL: the ring is full,
 * or, of a switch, a session is wanted first. */
struct ring_record *tun_reader_reserve(struct tun_reader *reader);

/* Between two runs. Returns 0 or -errno. */
int tun_reader_attach(struct tun_reader *reader, unsigned slot, uint32_t link_id, int fd,
                      const struct link_format *format);
void tun_reader_detach(struct tun_reader *reader, unsigned slot);
/* The slot's peer leaves it: what waits for it is not sent to the next one there. */
void tun_reader_forget_peer(struct tun_reader *reader, unsigned slot);

/* What is sealed is padded to so many bytes and no further; 0: any. */
static inline size_t tun_reader_padding_max(const struct tun_reader_link *link) {
    return link->packet_max != 0 ? link->packet_max : link->format.mtu;
}

/* NULL: it is another role's. */
static inline struct tun_reader *tun_reader_of(struct loop *loop) {
    return loop->role == ROLE_tun_reader ? (struct tun_reader *)(void *)loop : NULL;
}

#endif
