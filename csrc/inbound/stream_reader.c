#define _GNU_SOURCE
#include "inbound/stream_reader.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "inbound/message_in.h"
#include "packet/byteorder.h"

enum { LENGTH_INCOMPLETE = -1, LENGTH_BAD = -2 };

static int next_length(const struct link_reader *reader, const struct reader_link *link);
static enum step bad_length(struct link_reader *reader, unsigned slot);
static enum step end_of_stream(struct link_reader *reader, unsigned slot, int error);

/* -- reading ----------------------------------------------------------------------------------- */

/* Moves the rest to the front, so that a whole message fits behind it. */
static void compact(struct reader_link *link) {
    size_t rest = link->rx_end - link->rx_start;
    memmove(link->rx_buffer, link->rx_buffer + link->rx_start, rest);
    link->rx_start = 0;
    link->rx_end = rest;
}

enum step stream_read(struct link_reader *reader, unsigned slot) {
    struct reader_link *link = reader->links[slot];
    if (link == NULL || link->has_ended)
        return STEP_MORE;
    compact(link);
    struct iovec room = {link->rx_buffer + link->rx_end, RX_BUFFER_LENGTH - link->rx_end};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1};
    /* Not by readv: the filter allows no call that could read the device as well. */
    ssize_t n = recvmsg(link->fd, &message, 0);
    stats_call(reader->loop.stats, CALL_recvmsg);
    if (n > 0) {
        pace_accepted();
        link->rx_end += (size_t)n;
        return stream_drain(reader, slot);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS)) {
        pace_refused();
        return STEP_MORE;
    }
    return end_of_stream(reader, slot, n < 0 ? errno : 0);
}

/* -- message by message ------------------------------------------------------------------------ */

enum step stream_drain(struct link_reader *reader, unsigned slot) {
    struct reader_link *link = reader->links[slot];
    struct arrival arrival = {(int)slot, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    enum step step = STEP_MORE;
    uint64_t n_messages = 0;
    int length = LENGTH_INCOMPLETE;
    while (step == STEP_MORE && (length = next_length(reader, link)) > 0) {
        const uint8_t *message = link->rx_buffer + link->rx_start + STREAM_LENGTH_PREFIX;
        step = message_forward(reader, &arrival, message, (size_t)length);
        if (step == STEP_RING_FULL)
            break;
        link->rx_start += STREAM_LENGTH_PREFIX + (size_t)length;
        n_messages++;
    }
    message_publish(reader, n_messages);
    return step == STEP_MORE && length == LENGTH_BAD ? bad_length(reader, slot) : step;
}

/* The length of the message that begins the buffer. */
static int next_length(const struct link_reader *reader, const struct reader_link *link) {
    size_t n_buffered = link->rx_end - link->rx_start;
    if (n_buffered < STREAM_LENGTH_PREFIX)
        return LENGTH_INCOMPLETE;
    size_t length = be16_read(link->rx_buffer + link->rx_start);
    if (length == 0 || length > message_limit(reader->loop.wire))
        return LENGTH_BAD;
    return n_buffered < STREAM_LENGTH_PREFIX + length ? LENGTH_INCOMPLETE : (int)length;
}

/* -- the end ----------------------------------------------------------------------------------- */

static enum step report_end(struct link_reader *reader, unsigned slot, enum event_kind kind,
                            int error) {
    struct reader_link *link = reader->links[slot];
    link->has_ended = true;
    loop_unwatch(&reader->loop, link->fd);
    loop_report(&reader->loop, slot, link->id, kind, error);
    return STEP_LINK_ENDED;
}

static enum step bad_length(struct link_reader *reader, unsigned slot) {
    message_drop(reader, DROP_link_reader_bad_length, 0);
    return report_end(reader, slot, EVENT_LINK_FAULT, 0);
}

/* The stream ended, by itself (error 0) or by a reset; either may cut a message. */
static enum step end_of_stream(struct link_reader *reader, unsigned slot, int error) {
    struct reader_link *link = reader->links[slot];
    bool is_cut = link->rx_end != link->rx_start;
    if (is_cut)
        message_drop(reader, DROP_link_reader_truncated, 0);
    link->rx_start = link->rx_end = 0;
    if (error != 0)
        return report_end(reader, slot, EVENT_LINK_ERROR, error);
    return report_end(reader, slot, is_cut ? EVENT_LINK_FAULT : EVENT_LINK_CLOSED, 0);
}
