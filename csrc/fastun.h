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

enum wire { WIRE_SIMPLETUN, WIRE_PLAIN };
enum mode { MODE_TUN, MODE_TAP };

/* -- device ------------------------------------------------------------------------------------ */

enum device_offload { DEVICE_OFFLOAD_NONE, DEVICE_OFFLOAD_TCP, DEVICE_OFFLOAD_TCP_UDP };

/* Makes the interface (it lives as long as a descriptor of it) and returns its descriptor. */
int device_open(const char *name, enum mode mode);
/* Which super-packets reads may return. */
int device_set_offload(int fd, enum device_offload offload);

/* -- process ----------------------------------------------------------------------------------- */

/* Has the kernel kill this process when its parent dies; -ESRCH when that has happened already. */
int process_die_with_parent(int parent_pid);

/* -- rings ------------------------------------------------------------------------------------- */

struct ring *ring_create(size_t size_bytes, int *fd);
struct ring *ring_attach(int fd, size_t size_bytes);
void ring_detach(struct ring *ring);
uint64_t ring_used_bytes(struct ring *ring);
/* The gateway's doorbell to the worker that produces into, or consumes from, the ring. */
void ring_ring_producer(struct ring *ring);
void ring_ring_consumer(struct ring *ring);

/* -- statistics -------------------------------------------------------------------------------- */

struct stats *stats_create(int *fd);
struct stats *stats_attach(int fd);
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

/* -- the four loops ---------------------------------------------------------------------------- */

/* Why a loop returned to Python. */
enum loop_end {
    LOOP_DOORBELL,    /* the control channel has a message, or has closed */
    LOOP_LINK_CLOSED, /* the peer closed the stream between two frames */
    LOOP_LINK_FAULT,  /* the stream broke the framing: bad length, or cut inside a frame */
    LOOP_LINK_ERROR,  /* a socket error; loop_error() has the errno */
    LOOP_DEVICE_GONE, /* the device was deleted; loop_error() has the errno */
};

/* One worker's loop: made once, run until it returns a loop_end, run again after what it said was
 * seen to. `role` is an index of stats_role_name. Descriptors stay the caller's. */
struct loop *loop_new(unsigned role, struct ring *ring, struct stats *stats, int device_fd,
                      int channel_fd);
void loop_free(struct loop *loop);
enum loop_end loop_run(struct loop *loop);
int loop_error(struct loop *loop);
/* Takes the doorbell: call before reading the channel. */
void loop_take_bell(struct loop *loop);
/* A new link, and which messages it may carry; fd -1 says that there is none. The tun-reader is
 * told only the format: it lays frames out for whatever link there is or will be. */
void loop_set_link(struct loop *loop, int fd, enum wire wire, enum mode mode, int super_outbound,
                   int super_inbound, size_t message_max);

#endif
