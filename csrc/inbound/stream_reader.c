/* The link-reader's streams: `u16 big-endian length | message`, again and again.
 *
 * A link's staging holds what has come and is not yet a whole message. A length that cannot be, or
 * an end inside a message, ends the link.
 */
#define _GNU_SOURCE
#include "inbound/link_reader.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "packet/byteorder.h"

enum { LENGTH_INCOMPLETE = -1, LENGTH_BAD = -2 };

/* The length of the message that begins the staging. */
static int next_length(const struct loop *loop, const struct loop_link *link) {
    size_t staged = link->staging_end - link->staging_start;
    if (staged < STREAM_LENGTH_PREFIX)
        return LENGTH_INCOMPLETE;
    size_t length = be16_read(link->staging + link->staging_start);
    if (length == 0 || length > message_limit(loop->wire))
        return LENGTH_BAD;
    return staged < STREAM_LENGTH_PREFIX + length ? LENGTH_INCOMPLETE : (int)length;
}

static enum source_end bad_length(struct loop *loop, unsigned slot) {
    inbound_drop(loop, DROP_link_reader_bad_length, 0);
    loop_report(loop, slot, EVENT_LINK_FAULT, 0);
    return SOURCE_OVER;
}

enum source_end stream_pass(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    struct arrival arrival = {(int)slot, NULL, clock_now_ns(), clock_boottime_ns()};
    enum inbound_end end = INBOUND_MORE;
    uint64_t n_messages = 0;
    int length = LENGTH_INCOMPLETE;
    while (end == INBOUND_MORE && (length = next_length(loop, link)) > 0) {
        const uint8_t *message = link->staging + link->staging_start + STREAM_LENGTH_PREFIX;
        end = inbound_pass(loop, &arrival, message, (size_t)length);
        if (end == INBOUND_FULL)
            break;
        link->staging_start += STREAM_LENGTH_PREFIX + (size_t)length;
        n_messages++;
    }
    inbound_publish(loop, n_messages);
    if (end == INBOUND_FULL)
        return SOURCE_FULL;
    if (end == INBOUND_EVENT)
        return SOURCE_EVENT;
    return length == LENGTH_BAD ? bad_length(loop, slot) : SOURCE_MORE;
}

/* The stream ended, by itself (error 0) or by a reset; either may cut a message. */
static enum source_end end_of_stream(struct loop *loop, unsigned slot, int error) {
    struct loop_link *link = loop->links[slot];
    bool is_cut = link->staging_end != link->staging_start;
    if (is_cut)
        inbound_drop(loop, DROP_link_reader_truncated, 0);
    link->staging_start = link->staging_end = 0;
    if (error != 0)
        loop_report(loop, slot, EVENT_LINK_ERROR, error);
    else
        loop_report(loop, slot, is_cut ? EVENT_LINK_FAULT : EVENT_LINK_CLOSED, 0);
    return SOURCE_OVER;
}

/* Moves the rest to the front, so that a whole message fits behind it. */
static void compact(struct loop_link *link) {
    size_t rest = link->staging_end - link->staging_start;
    memmove(link->staging, link->staging + link->staging_start, rest);
    link->staging_start = 0;
    link->staging_end = rest;
}

enum source_end stream_read(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    if (link == NULL || link->is_over)
        return SOURCE_MORE;
    compact(link);
    struct iovec room = {link->staging + link->staging_end, STAGING_LENGTH - link->staging_end};
    ssize_t n = readv(link->fd, &room, 1);
    stats_call(loop->stats, CALL_readv);
    if (n > 0) {
        link->staging_end += (size_t)n;
        return stream_pass(loop, slot);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return SOURCE_MORE;
    return end_of_stream(loop, slot, n < 0 ? errno : 0);
}
