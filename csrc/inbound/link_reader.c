/* link-reader: the first stage of the inbound direction.
 *
 *   1. wait until a stream or a UDP socket can be read; read as much as there is, up to the
 *      staging's size; one read a source and round
 *   2. cut it into messages: by their length prefix on a stream (stream_reader.c), a datagram each
 *      on UDP (datagram_reader.c)
 *   3. bring each message's content into the ring: opened, on the sealed wire, else copied; take it
 *      apart where it lies and check everything, for it comes from the network (message_in.c)
 *   4. publish what one read gave, read again; a full ring stops the reading, and so the peers
 *
 * It alone reads the sockets, alone holds the receiving keys and alone produces into the inbound
 * ring. Handshake messages go up to the gateway.
 */
#define _GNU_SOURCE
#include "inbound/link_reader.h"

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

/* Looks which sources can be read. */
static void look(struct loop *loop, enum wait_end *wait) {
    loop->next_ready = 0;
    loop->n_ready = epoll_wait(loop->epoll_fd, loop->ready, READY_MAX, -1);
    stats_call(loop->stats, CALL_epoll_wait);
    for (int i = 0; i < loop->n_ready; i++)
        if (loop->ready[i].data.u32 == POLL_CHANNEL)
            *wait = WAIT_DOORBELL;
}

/* Reads each source that can be read once, whatever they have to report in between: else the one
 * that always has something would keep all others waiting, since epoll tells it first again. */
static enum loop_end read_round(struct loop *loop, enum wait_end *wait) {
    enum loop_end end = LOOP_DOORBELL;
    if (loop->next_ready >= loop->n_ready)
        look(loop, wait);
    while (loop->next_ready < loop->n_ready && *wait == WAIT_READY && end == LOOP_DOORBELL) {
        uint32_t what = loop->ready[loop->next_ready++].data.u32;
        int source = what >= POLL_SOCKET ? SOURCE_DATAGRAMS : (int)what;
        if (what != POLL_CHANNEL)
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
