/* link-reader: the first stage of the inbound direction.
 *
 *   1. wait until a stream or a UDP socket can be read; read as much as there is, up to the
 *      staging's size; one read a source and round
 *   2. cut it into messages: by their length prefix on a stream (stream_reader.c), a datagram each
 *      on UDP (datagram_reader.c)
 *   3. bring each message's content into the ring: opened, on the sealed wire, else copied; take it
 *      apart where it lies and check everything, for it comes from the network (inbound.c)
 *   4. publish what one read gave, read again; a full ring stops the reading, and so the peers
 *
 * It alone reads the sockets, alone holds the receiving keys and alone produces into the inbound
 * ring. Handshake messages go up to the gateway.
 */
#define _GNU_SOURCE
#include "link_reader.h"

#include <sys/epoll.h>

enum { EPOLL_EVENTS_MAX = 64 };

static enum source_end pass_rest(struct loop *loop, int source) {
    return source == SOURCE_DATAGRAMS ? datagrams_pass(loop) : stream_pass(loop, (unsigned)source);
}

static enum source_end read_source(struct loop *loop, uint32_t what) {
    if (what >= POLL_SOCKET)
        return datagrams_read(loop, what - POLL_SOCKET);
    return stream_read(loop, what);
}

/* Goes on until all that was read of the source has been passed on, waiting for room in the ring.
 * LOOP_DOORBELL: nothing to report. */
static enum loop_end pass_all(struct loop *loop, int source, enum source_end end,
                              enum wait_end *wait) {
    loop->unpassed_source = source;
    for (;; end = pass_rest(loop, source)) {
        switch (end) {
        case SOURCE_FULL:
            *wait = ring_wait_space(loop->ring, inbound_space_max(), loop->channel_fd, loop->stats);
            break;
        case SOURCE_EVENT:
            return LOOP_EVENT; /* there may be more; it is passed on when the loop runs again */
        case SOURCE_OVER:
            loop->unpassed_source = SOURCE_NONE;
            return LOOP_EVENT;
        case SOURCE_MORE:
            loop->unpassed_source = SOURCE_NONE;
            return LOOP_DOORBELL;
        }
        if (*wait == WAIT_DOORBELL || waiter_is_rung(loop->self)) {
            *wait = WAIT_DOORBELL;
            return LOOP_DOORBELL;
        }
    }
}

/* Waits for sources that can be read, and reads each once. */
static enum loop_end read_round(struct loop *loop, enum wait_end *wait) {
    struct epoll_event events[EPOLL_EVENTS_MAX];
    enum loop_end end = LOOP_DOORBELL;
    int n = epoll_wait(loop->epoll_fd, events, EPOLL_EVENTS_MAX, -1);
    stats_call(loop->stats, CALL_epoll_wait);
    for (int i = 0; i < n; i++)
        if (events[i].data.u32 == POLL_CHANNEL)
            *wait = WAIT_DOORBELL;
    for (int i = 0; i < n && *wait == WAIT_READY && end == LOOP_DOORBELL; i++) {
        uint32_t what = events[i].data.u32;
        int source = what >= POLL_SOCKET ? SOURCE_DATAGRAMS : (int)what;
        end = pass_all(loop, source, read_source(loop, what), wait);
    }
    return end;
}

enum loop_end link_reader_loop(struct loop *loop) {
    enum wait_end wait = WAIT_READY;
    enum loop_end end = LOOP_DOORBELL;
    int source = loop->unpassed_source;
    if (source != SOURCE_NONE && !waiter_is_rung(loop->self))
        end = pass_all(loop, source, pass_rest(loop, source), &wait);
    while (wait == WAIT_READY && end == LOOP_DOORBELL && !waiter_is_rung(loop->self))
        end = read_round(loop, &wait);
    return end;
}
