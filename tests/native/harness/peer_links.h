/* peer_links: a link-writer with a link to each of several peers, and the peers themselves.
 *
 * Every frame names its peer and its number and is filled from them, so a peer sees at once what
 * was cut, mixed, lost or put out of order. The loop runs in a thread; links are changed, and
 * handshake messages sent, only while it is at rest, as in a worker.
 */
#ifndef PEER_LINKS_H
#define PEER_LINKS_H

#include "worker_thread.h"

enum {
    N_PEERS = 4,
    PEER_RING_BYTES = RING_SIZE_MIN,
    /* slot u8 and whether it is a handshake message, number u32 */
    PEER_FRAME_MIN = 5,
    PEER_FRAME_MAX = 60000,
};

/* One peer's end of its link, and what it has seen. */
struct peer_end {
    int fd[2]; /* the loop's, the peer's; -1 while there is no link */
    uint8_t bytes[2 + PEER_FRAME_MAX];
    size_t n_bytes;         /* of a frame that is not yet whole */
    uint32_t next_frame;    /* the least number that may come next */
    uint32_t n_handshakes;  /* seen on this link */
    uint64_t n_packets;     /* in whole frames, over all links of this peer */
    uint64_t n_frame_bytes; /* the same, as the records said */
};

struct peer_links {
    enum wire wire;
    struct lane_memory lane;
    struct worker_thread worker;
    bool is_running;
    struct peer_end peers[N_PEERS];
    uint32_t n_published[N_PEERS]; /* frames; the next one's number */
    uint64_t n_packets[N_PEERS];   /* published */
};

void peer_links_open(struct peer_links *links, enum wire wire);
void peer_links_close(struct peer_links *links);

void peer_links_run(struct peer_links *links);
/* At rest: as if the uplink had just been full, so that the peers take turns. */
void peer_links_take_turns(struct peer_links *links);
/* Rings the doorbell; the loop must have had nothing to report. */
void peer_links_stop(struct peer_links *links);
/* Waits until the loop has emptied the ring. */
void peer_links_await_empty_ring(struct peer_links *links);

/* A new connection to the peer; send_buffer 0 leaves the kernel's size. */
void peer_attach(struct peer_links *links, unsigned slot, int send_buffer);
/* The peer reads what the socket still holds; the last frame may be cut. */
void peer_detach(struct peer_links *links, unsigned slot);

/* Puts a frame for the peer in the ring; false: the ring is full. Not yet published. */
bool peer_commit(struct peer_links *links, unsigned slot, size_t length);
void peer_publish(struct peer_links *links);
/* Both. The ring must have room. */
void peer_send(struct peer_links *links, unsigned slot, size_t length);
/* What loop_send_message returned. */
int peer_send_handshake(struct peer_links *links, unsigned slot, uint32_t number, size_t length);

/* The peer takes up to n bytes and checks them. Returns how many there were. */
size_t peer_read(struct peer_links *links, unsigned slot, size_t n);
/* Reads until nothing has come for a while although the loop runs. */
void peer_read_all(struct peer_links *links, unsigned slot);

#endif
