/* sealed_link: the link-reader on the sealed wire with one peer's stream, and what comes of what is
 * written into it.
 *
 * Each claim writes its messages, and check_counts closes the stream and runs the loop in this
 * thread until the link has ended; events on the way are kept.
 */
#ifndef SEALED_LINK_H
#define SEALED_LINK_H

#include "sealing.h"
#include "worker_thread.h"

enum {
    RING_BYTES = 1 << 20,
    NO_DROP = N_DROPS,
    KEY = 1,
    INDEX = 0x80000001,
    SLOT = 7,
    OTHER_SLOT = 8,
    OUR_ADDRESS = 0x0a000001,
    PEER_ADDRESS = 0x0a000007,
    OTHER_ADDRESS = 0x0a000008,
    PACKET = 64,
    EVENTS_MAX = 128,
};

struct reader {
    struct lane_memory lane;
    struct worker_thread worker;
    struct loop *loop; /* the worker's */
    int stream[2];     /* the loop's, the peer's */
    enum aead aead;
    struct loop_event events[EVENTS_MAX]; /* before the one that ended the link */
    size_t n_events;
};

extern const enum aead aeads[2];
extern struct sealed_message sealed; /* what is sent next */
extern struct reader reader;

void allow(unsigned slot, uint32_t address);
void add_key(unsigned key_number, uint32_t index, uint64_t counter);
void reader_open_mode(enum aead aead, enum mode mode);
void reader_open(enum aead aead);
/* Of a TAP device with many peers, with the peer's key. */
void reader_open_switch(enum aead aead);
/* Ends the stream and runs the loop until it has taken all. */
void reader_run_to_the_end(void);
void reader_close(void);
void send_sealed(void);
void send_content(uint64_t counter, const uint8_t *content, size_t length);
void make_packet(unsigned key_number, uint32_t index, uint64_t counter);
void send_good(uint64_t counter);
void send_raw(const uint8_t *message, size_t length);
uint64_t field(unsigned slot, const char *name);
/* Ends the stream, and then: `n_passed` packets go on to the device, `n_dropped` do not, for this
 * reason and no other. */
void check_counts(size_t n_passed, unsigned reason, size_t n_dropped);
/* The same for what has been read so far. */
void check_counted(size_t n_passed, unsigned reason, size_t n_dropped);
size_t count_events(enum event_kind kind);

#endif
