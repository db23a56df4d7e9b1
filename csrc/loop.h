/* loop: what the four workers' loops have in common.
 *
 *   outbound   device --> tun_reader_loop --[ring]--> link_writer_loop --> socket
 *   inbound    device <-- tun_writer_loop <--[ring]-- link_reader_loop <-- socket
 *
 * Each loop runs in a process of its own with the GIL released, and returns only when Python has
 * something to do. In a loop there is no allocation and no logging; every frame that is not passed
 * on is counted with a reason.
 */
#ifndef FASTUN_LOOP_H
#define FASTUN_LOOP_H

#include "device.h"
#include "fastun.h"
#include "message.h"
#include "ring.h"
#include "stats.h"

struct loop {
    enum stats_role role;
    struct ring *ring;
    struct waiter *self; /* this worker's side of the ring: where its bell hangs */
    struct stats_block *stats;
    int device_fd;
    int channel_fd;
    int link_fd;
    struct link_format format;
    int error; /* the errno behind the last LOOP_LINK_ERROR or LOOP_DEVICE_GONE */

    /* link-writer: bytes of the ring's first record that the socket has taken already */
    size_t n_sent;

    /* link-reader: bytes from the stream that are not yet a whole message */
    uint8_t *staging;
    size_t staging_start, staging_end;
};

enum {
    /* The stream bytes that one read may take. Two longest messages and some: after the remainder
     * of one message there is always room for a whole next one. */
    STAGING_LENGTH = 256 * 1024,
};

enum loop_end tun_reader_loop(struct loop *loop);
enum loop_end link_writer_loop(struct loop *loop);
enum loop_end link_reader_loop(struct loop *loop);
enum loop_end tun_writer_loop(struct loop *loop);

uint64_t clock_now_ns(void);

#endif
