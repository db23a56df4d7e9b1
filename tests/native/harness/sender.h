/* sender: the tun-reader before a device that the test writes, and what it puts into its ring,
 * opened.
 *
 * A SOCK_SEQPACKET pair stands for the device: one read is one frame there too. The loop runs in
 * this thread: a message that waits on the channel ends it as soon as it has nothing to do.
 */
#ifndef SENDER_H
#define SENDER_H

#include "sealing.h"
#include "worker_thread.h"

enum { SENDER_RING_BYTES = 1 << 20, PACKET = 100, US = 0x0a000001, SENDER_EVENTS_MAX = 64 };

struct sender_session {
    bool is_known;
    unsigned session;
    uint64_t base;
};

struct sender {
    enum wire wire;
    int device[2]; /* the loop's end, the test's; -1 where the test has opened another device */
    struct lane_memory lane;
    struct worker_thread worker;
    struct loop_event events[SENDER_EVENTS_MAX]; /* of the runs so far */
    size_t n_events;
    struct sender_session sessions[N_PEER_SLOTS][SENDING_PLACES];
};

/* The next record of the ring, and what a message in it sealed. */
struct opened {
    const struct ring_view *record;
    uint64_t counter;
    uint8_t content[MESSAGE_MAX];
    int length;
};

extern struct sender sender;
extern struct opened opened;
extern uint64_t cursor; /* of open_next; the test sets it to ring_first */

void sender_open_wire(enum wire wire, enum mode mode);
void sender_open(enum mode mode);
/* Of a TAP device with many peers. */
void sender_open_switch(void);
/* The tun-reader of lane `lane` of two. */
void sender_open_lane(unsigned lane);
/* Before that device instead of the pair. */
void sender_open_device(enum mode mode, int device_fd);
void sender_close(void);
void sender_attach(unsigned slot, struct link_format format);
/* A session: the key's number is the slot's; its index begins with the slot, and differs by
 * `session`. One that is set again goes on counting. */
void set_session(unsigned slot, enum aead aead, unsigned session, uint64_t counter,
                 uint64_t expires_ns);
void set_key(unsigned slot, enum aead aead, uint64_t counter);
void sender_allow(unsigned slot, const uint8_t *address, size_t length, unsigned prefix_length);
/* 10.0.0.0/8 and fd00::/8. */
void sender_allow_ten(unsigned slot);

/* Hands the packets that were written to the device over to the loop. */
void sender_run(void);
/* A frame of the device: virtio_net_hdr and packet. */
void give_frame(const void *bytes, size_t length);
void give(const uint8_t *packet, size_t length);
void give_packet(uint32_t destination);

/* Checks and opens the message at the start of `bytes`; on a datagram its length is `length`, on a
 * stream its prefix says it. Returns bytes taken. */
size_t open_message(enum aead aead, bool is_datagram, const uint8_t *bytes, size_t length);
/* Of a record of one message on a stream. */
bool open_next(enum aead aead);
/* Gives what the cursor has passed back to the loop. */
void sender_release(void);

uint64_t sender_counter(enum stats_counter which);
uint64_t sender_dropped(enum stats_drop drop);
uint64_t sender_dropped_in_all(void);
uint64_t sender_field(unsigned slot, const char *name);

#endif
