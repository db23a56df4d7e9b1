/* fastun: what the C library offers to Python. The only declaration of it: cffi reads this file too
 * (lines that begin with # are left out there), and the compiler holds both to the same types.
 *
 * Functions that return a pointer give NULL and set errno on failure; those that return an int give
 * -errno, unless they say otherwise. All pointers are owned by the caller of *_create or *_new.
 */
#ifndef FASTUN_H
#define FASTUN_H

#include <stddef.h>
#include <stdint.h>

enum wire { WIRE_SIMPLETUN, WIRE_PLAIN, WIRE_WIREGUARD };
enum mode { MODE_TUN, MODE_TAP };
enum aead { AEAD_CHACHA20_POLY1305, AEAD_AES_256_GCM };

/* -- the wire ---------------------------------------------------------------------------------- */

/* WireGuard's messages (whitepaper 5.4), and fastun's own 5. */
enum message_type {
    MESSAGE_INITIATION = 1,
    MESSAGE_RESPONSE = 2,
    MESSAGE_COOKIE = 3,
    MESSAGE_DATA_CHACHA = 4,
    MESSAGE_DATA_AES = 5,
};

/* What a data message carries, when it is not an IP packet: the first of 4 bytes. */
enum content_type {
    MESSAGE_CONTROL = 0x01,
    MESSAGE_SUPER = 0x02,
    MESSAGE_ETHERNET = 0x03,
    MESSAGE_PIECE = 0x04, /* of a super-packet or a frame: csrc/packet/pieces.h */
};

/* Bytes. */
enum {
    INITIATION_SIZE = 148,
    RESPONSE_SIZE = 92,
    COOKIE_REPLY_SIZE = 64,
    DATA_HEADER = 16, /* type, 3 zero bytes, receiver, counter */
    DATA_TAG = 16,
    DATA_MESSAGE_MIN = DATA_HEADER + DATA_TAG, /* a keepalive */
    DATA_PADDING = 16,

    STREAM_LENGTH_PREFIX = 2,
    MESSAGE_MAX = 65535, /* what the u16 prefix can say */
    /* What fits it with header, tag and the most padding. */
    SEALED_CONTENT_MAX = MESSAGE_MAX - DATA_MESSAGE_MIN - DATA_PADDING + 1,
    /* The original's receive buffer: a longer frame would overrun it. */
    SIMPLETUN_MESSAGE_MAX = 2000,
    MESSAGE_TYPE_LENGTH = 4, /* content_type, 3 zero bytes */
};

enum {
    REACH_MAX = 64, /* networks that one peer may be restricted to */
    JOINS_FRAMES = 1,
    JOINS_SUPER_PACKETS = 2, /* bits of what a peer joins of pieces */
    /* UDP sockets of a lane: one an address that is listened on. */
    N_SOCKETS = 16,
};

/* -- device ------------------------------------------------------------------------------------ */

enum device_offload { DEVICE_OFFLOAD_NONE, DEVICE_OFFLOAD_TCP, DEVICE_OFFLOAD_TCP_UDP };

/* Makes the interface (it lives as long as a descriptor of it) and returns its descriptor. */
int device_open(const char *name, enum mode mode);
/* The same for one with several queues: each call makes one more, and returns its descriptor. */
int device_open_queue(const char *name, enum mode mode);
/* Which super-packets reads may return. */
int device_set_offload(int fd, enum device_offload offload);

/* -- process ----------------------------------------------------------------------------------- */

/* Keeps this process's memory out of core dumps and from other processes of the user. */
int process_hide_memory(void);
/* Has the kernel kill this process when its parent dies; -ESRCH when that has happened already. */
int process_die_with_parent(int parent_pid);
/* Gives the kernel what malloc keeps for later. */
void process_trim_memory(void);
/* Forks a process whose parent is ours. Only in a process with one thread. Returns 0 in the child,
 * which has to call process_die_with_parent itself. */
int process_fork_sibling(void);

/* 1 when AES-256-GCM runs on the processor's own AES and carry-less multiplication. Without them it
 * is slower than ChaCha20-Poly1305, and its tables leak through the cache. */
int aead_has_aes_instructions(void);
/* Has this process, and what it forks, seal by the fastest library here; else libgcrypt seals. */
void aead_load_fastest(void);
/* The fastest library here, which then seals in this process; "" when none can. */
const char *aead_library_name(void);

/* -- rings ------------------------------------------------------------------------------------- */

struct ring *ring_create(size_t size_bytes, int *fd);
struct ring *ring_attach(int fd, size_t size_bytes);
void ring_detach(struct ring *ring);
uint64_t ring_used_bytes(struct ring *ring);
/* The gateway's doorbell to the worker that produces into, or consumes from, the ring. */
void ring_doorbell_producer(struct ring *ring);
void ring_doorbell_consumer(struct ring *ring);
/* The gateway has reaped the producer; 1 if it held the consumer's token (csrc/shared/token.h). */
int ring_producer_is_dead(struct ring *ring);

/* -- statistics -------------------------------------------------------------------------------- */

struct stats *stats_create(int *fd);
struct stats *stats_attach(int fd, unsigned writers); /* a bit a role whose block it writes */
void stats_detach(struct stats *stats);

/* Indices run from 0 to the stats_n_* below; drops are numbered across all roles. */
uint64_t stats_read_counter(struct stats *stats, unsigned role, unsigned counter);
uint64_t stats_read_drop(struct stats *stats, unsigned drop);
uint64_t stats_read_call(struct stats *stats, unsigned role, unsigned call);
uint64_t stats_read_batch_frames(struct stats *stats, unsigned role, unsigned bucket);
uint64_t stats_read_batch_frames_sum(struct stats *stats, unsigned role);
uint64_t stats_read_queue_delay(struct stats *stats, unsigned role, unsigned bucket);
uint64_t stats_read_queue_delay_sum_ns(struct stats *stats, unsigned role);

unsigned stats_n_roles(void);
unsigned stats_n_counters(void);
unsigned stats_n_calls(void);
unsigned stats_n_drops(void);
unsigned stats_n_batch_buckets(void);
unsigned stats_n_delay_buckets(void);
const char *stats_role_name(unsigned role);
const char *stats_counter_name(unsigned counter);
const char *stats_call_name(unsigned call);
unsigned stats_drop_role(unsigned drop);
const char *stats_drop_reason(unsigned drop);
const char *stats_drop_help(unsigned drop);

/* -- link -------------------------------------------------------------------------------------- */

struct link_tcp_info {
    uint32_t rtt_us;        /* smoothed round trip time */
    uint32_t n_retransmits; /* segments sent again since the connection began */
    uint32_t notsent_bytes; /* in the socket, but not yet on the network */
};

/* Reads what getsockopt(TCP_INFO) returned. Takes no descriptor: a scraping thread could find it
 * closed and reused, where Python's socket makes the call under the lock that closing takes. */
void link_tcp_info_decode(const void *option, size_t length, struct link_tcp_info *info);

/* -- endpoints --------------------------------------------------------------------------------- */

enum udp_address_family { UDP_ADDRESS_UNKNOWN, UDP_ADDRESS_IPV4, UDP_ADDRESS_IPV6 };

/* Where a peer is on UDP, and which of our addresses it knows. */
struct udp_address {
    uint32_t socket_index; /* which of our sockets reaches it */
    uint16_t family;       /* an udp_address_family */
    uint16_t port;
    uint8_t address[16]; /* an IPv4 address is in the first 4 bytes */
    uint32_t zone;       /* the interface of a link-local address, else 0 */
    uint32_t local_zone; /* the interface that its last datagram came in by, 0 unknown */
    uint8_t local[16];   /* our address that it sends to, zeros unknown */
};

/* In `local_zone`, beside an interface by which the way to the peer does not lead any more: what
 * still comes in by it does not set `local`. */
enum { UDP_ADDRESS_LEFT = 1 << 30 };

/* -- peers ------------------------------------------------------------------------------------- */

/* What is counted by peer, in shared memory; a peer is known to the data path by its slot. */
struct peer_table *peer_table_create(int *fd);
struct peer_table *peer_table_attach(int fd, unsigned writers); /* as for stats_attach */
void peer_table_detach(struct peer_table *table);
uint64_t peer_table_read(struct peer_table *table, unsigned slot, unsigned field);
/* Where the slot's peer was last heard on UDP. 0: nowhere. */
int peer_table_endpoint(struct peer_table *table, unsigned slot, struct udp_address *endpoint);
/* Zeroes a slot that is given to another peer. No worker may be writing it. */
void peer_table_clear(struct peer_table *table, unsigned slot);
unsigned peer_table_n_slots(void);
unsigned peer_table_n_fields(void);
const char *peer_table_field_name(unsigned field);

/* -- the switch of a TAP device with many peers ------------------------------------------------- */

/* Which MAC address is behind which peer, in shared memory: csrc/shared/mac_table.h. */
struct mac_table *mac_table_create(int *fd);
struct mac_table *mac_table_attach(int fd);
void mac_table_detach(struct mac_table *table);
/* The `i`-th address that is this host's own, which no peer can have; NULL: none. */
void mac_table_set_own(struct mac_table *table, unsigned i, const uint8_t address[6]);
unsigned mac_table_n_own(void);
/* The addresses behind a slot, seen lately as of CLOCK_MONOTONIC: the first `n_max` go to `keys`,
 * the low 48 bits an address, the 12 above its VLAN. Returns how many there are. */
unsigned mac_table_list(struct mac_table *table, unsigned slot, uint64_t now_ns, uint64_t *keys,
                        unsigned n_max);

/* -- the four loops ---------------------------------------------------------------------------- */

/* Why a loop returned to Python. */
enum loop_end {
    LOOP_DOORBELL,    /* the control channel has a message, or has closed */
    LOOP_EVENT,       /* loop_event() has it */
    LOOP_DEVICE_GONE, /* the device was deleted; loop_error() has the errno */
};

enum event_kind {
    EVENT_LINK_CLOSED,      /* the peer closed the stream between two frames */
    EVENT_LINK_FAULT,       /* the stream broke the framing: bad length, or cut inside a frame */
    EVENT_LINK_ERROR,       /* a socket error: `error` is the errno */
    EVENT_STREAM_HANDSHAKE, /* a handshake message came on a stream: `bytes` */
    EVENT_UDP_HANDSHAKE,    /* a handshake message came on UDP, from `endpoint`: `bytes` */
    EVENT_CONTROL,    /* a control message was opened under the receiving key `index`: `bytes` */
    EVENT_CONFIRMED,  /* the first data came under the receiving key `index` */
    EVENT_NO_SESSION, /* a packet for a peer on UDP has no session to go through */
    EVENT_TOO_LONG,   /* a datagram did not fit the path's MTU */
    EVENT_REFUSAL,    /* the kernel refuses this peer's refusal_kind `index`; `error` 0: no more */
};

enum refusal_kind {
    REFUSED_TRAINS,     /* UDP_SEGMENT: many datagrams in one call */
    REFUSED_TCP_GROUPS, /* the peer's packets, written to the device as one super-packet */
    REFUSED_UDP_GROUPS,
    REFUSED_DATAGRAMS, /* what is sent to the peer on UDP: it is lost */
};

enum {
    HANDSHAKE_BYTES_MAX = INITIATION_SIZE, /* the longest handshake message */
    EVENT_BYTES_MAX = 4096,                /* the longest control message */
};

struct loop_event {
    enum event_kind kind;
    uint32_t slot;
    uint32_t link_id;
    uint32_t index;
    int error;
    struct udp_address endpoint;
    uint32_t length;
    uint8_t bytes[EVENT_BYTES_MAX];
};

/* Which messages a link may carry. */
struct link_format {
    enum wire wire;
    enum mode mode;
    int super_outbound; /* the peer's hello takes super-packets; else they are split */
    int super_inbound;  /* ours offers to */
    size_t message_max; /* bytes; what the peer takes */
    int is_datagram;    /* one message a datagram, without length prefix */
    size_t mtu;       /* the device's; sealed packets are padded up to it and no further. 0: any */
    int splits_udp;   /* of super-packets the peer takes only TCP's: its kernel is older */
    int joins_pieces; /* what the peer joins of pieces, on UDP: bits of JOINS_ */
};

/* What a worker's loop works on, all of it the caller's. A descriptor that it has not is -1. */
struct loop_parts {
    unsigned role; /* an index of stats_role_name */
    enum wire wire;
    enum mode mode;
    struct ring *ring;
    struct stats *stats;
    struct peer_table *peers;
    struct sending_counters *sending;   /* of a tun-reader on the sealed wire; else NULL */
    struct replay_marks *marks;         /* of a link-reader there */
    int device_fd, channel_fd, wake_fd; /* wake_fd: the ring's eventfd */
    unsigned device_index;              /* the device's interface; 0: unknown */
    /* The switch: link-reader and tun-reader of a TAP device with many peers. The hairpin is the
     * ring of what goes from one peer to others, the link-reader to the tun-reader. */
    struct mac_table *macs; /* NULL: there is none */
    struct ring *hairpin;
    int hairpin_wake_fd;
    struct lane_crossing
        *crossing;    /* lanes.h: of a tun-reader that has others beside it; or NULL */
    int hands_over;   /* readers do their sleeping writers' steps (csrc/shared/token.h) */
    uint32_t spin_ns; /* a writer looks so long for the next record before it sleeps */
};

/* One worker's loop: made once, run until it returns a loop_end, run again after what it said was
 * seen to. */
struct loop *loop_new(const struct loop_parts *parts);
void loop_free(struct loop *loop);
enum loop_end loop_run(struct loop *loop);
int loop_error(struct loop *loop);
const struct loop_event *loop_event(struct loop *loop);
/* Takes the doorbell: call before reading the channel. */
void loop_take_bell(struct loop *loop);

/* tun-reader of a side that dials: while there is no session the device's queue holds what comes,
 * for a second, and no sender gets an ICMP answer. */
void loop_hold_without_session(struct loop *loop);

/* tun-reader and link-reader: lower the MSS of TCP connections to what fits in `mtu` bytes. */
void loop_clamp_mss(struct loop *loop, size_t mtu);

/* tun-writer: which super-packets it may make of single packets; link-reader, of pieces. */
void loop_coalesce(struct loop *loop, enum device_offload offload);

/* All but the tun-writer: a UDP socket, not blocking, known as `index` from now on, in place of
 * the one that was (still the caller's to close). `has_offload`: UDP_SEGMENT and UDP_GRO. */
int loop_add_socket(struct loop *loop, unsigned index, int fd, int has_offload);
/* The socket of an index is used no more; what is to be sent by it is dropped. */
void loop_remove_socket(struct loop *loop, unsigned index);
/* link-reader: what a mac1 for us is made with, and what our cookie replies are sealed under
 * (whitepaper 5.4.4, 5.4.7). */
int loop_set_gate_keys(struct loop *loop, const uint8_t mac1_key[32], const uint8_t cookie_key[32]);
/* link-reader: the index of our last initiation to the peer, which a cookie reply may name. */
void loop_await_reply(struct loop *loop, unsigned slot, uint32_t index);
/* link-reader: where the peer is on UDP, until an authentic datagram comes from elsewhere; under a key
 * that is older than that of the index `only_by`, none moves it any more (0: any does). */
int loop_set_endpoint(struct loop *loop, unsigned slot, const struct udp_address *endpoint,
                      uint32_t only_by);
/* link-reader: the event could not be reported; it is counted. */
void loop_drop_event(struct loop *loop);

/* Between two runs. A peer's link; fd -1: it is on UDP, or there is none yet. The link-reader knows
 * streams only. */
int loop_attach_link(struct loop *loop, unsigned slot, uint32_t link_id, int fd,
                     const struct link_format *format);
void loop_detach_link(struct loop *loop, unsigned slot);
/* tun-reader and link-reader: which peer owns an address; `address` has 4 or 16 bytes. */
int loop_allow_ip(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                  unsigned prefix_length);
/* No longer the peer's; where it has moved to another peer meanwhile, it stays there. */
int loop_forget_ip(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                   unsigned prefix_length);
/* The peer leaves its slot, with all that waits for it or came from it: another may come there. */
void loop_forget_ips(struct loop *loop, unsigned slot);
/* tun-reader (outbound) and link-reader (inbound): the peer's bytes a second, 0 for no limit;
 * `is_cut_off`: it has used up its quota, and nothing passes. */
int loop_set_rate_limit(struct loop *loop, unsigned slot, uint64_t rate, uint64_t burst_bytes,
                        int is_cut_off);
/* link-reader: the peer may send to this network (as for loop_allow_ip) and others that were added,
 * REACH_MAX at most; without any, everywhere. */
int loop_add_reach(struct loop *loop, unsigned slot, const uint8_t *address, size_t address_length,
                   unsigned prefix_length);
void loop_clear_reach(struct loop *loop, unsigned slot);
/* link-writer: whether the route to the peer on UDP leads into the tunnel; then nothing is sent. */
void loop_block_link(struct loop *loop, unsigned slot, int is_blocked);
/* tun-reader: longer packets than `packet_max` do not fit the path to the peer (0: all fit); longer
 * ones than `whole_max` go without "don't fragment" (0: none). */
void loop_set_packet_max(struct loop *loop, unsigned slot, size_t packet_max, size_t whole_max);
/* tun-reader: what the peer joins of pieces, bits of JOINS_; each is to fit the path. */
void loop_join_pieces(struct loop *loop, unsigned slot, int joins);
/* tun-reader: an empty message, which keeps the session alive and confirms its key. */
int loop_send_keepalive(struct loop *loop, unsigned slot);
/* tun-reader: a control message of EVENT_BYTES_MAX at most. -EAGAIN: no session or no room. */
int loop_send_control(struct loop *loop, unsigned slot, const uint8_t *content, size_t length);
/* link-writer: a handshake message on a stream, between two frames; on UDP a sealed one. */
int loop_send_message(struct loop *loop, unsigned slot, const uint8_t *message, size_t length);

#endif
