/* link-reader: the first stage of the inbound direction.
 *
 *   1. read as much of the stream as there is, up to the staging's size
 *   2. cut it into messages by their length prefix
 *   3. take each apart; check everything, for it comes from the network
 *   4. copy the frame into the ring as the device wants it: virtio_net_hdr, then the frame
 *   5. publish what one read gave, read again; a full ring stops the reading, and so the peer
 *
 * It alone reads the socket and alone produces into the inbound ring.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include "byteorder.h"

enum parse_end { PARSE_NEEDS_MORE, PARSE_RING_FULL, PARSE_BAD_LENGTH };

static enum stats_drop drop_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_link_reader_not_ip;
    case MESSAGE_BAD_VIRTIO:
        return DROP_link_reader_bad_virtio;
    default:
        return DROP_link_reader_bad_type;
    }
}

static void drop_message(struct loop *loop, enum stats_drop reason, size_t length) {
    stats_count(loop->stats, 1, length);
    stats_dropped(loop->stats, reason, 1);
}

static size_t record_space(size_t frame_length) {
    size_t used = sizeof(struct ring_record) + VNET_LENGTH + frame_length;
    return (used + RING_RECORD_ALIGN - 1) & ~(size_t)(RING_RECORD_ALIGN - 1);
}

static void fill_record(struct ring_record *record, const struct message_inbound *inbound,
                        uint64_t now_ns) {
    uint8_t *payload = (uint8_t *)(record + 1);
    *record = (struct ring_record){
        .offset = sizeof *record,
        .length = (uint32_t)(VNET_LENGTH + inbound->length),
        .n_packets = (uint32_t)inbound->n_packets,
        .n_bytes = (uint32_t)inbound->length,
        .enqueued_ns = now_ns,
    };
    vnet_write(&inbound->vnet, payload);
    memcpy(payload + VNET_LENGTH, inbound->frame, inbound->length);
}

/* false: the ring has no room for it yet. */
static bool pass_message(struct loop *loop, const uint8_t *message, size_t length,
                         uint64_t now_ns) {
    struct message_inbound inbound;
    struct ring_record *record = ring_reserve(loop->ring, record_space(length));
    if (record == NULL)
        return false;
    enum message_fault fault = message_take_apart(&loop->format, message, length, &inbound);
    if (fault != MESSAGE_OK) {
        drop_message(loop, drop_reason(fault), length);
        return true;
    }
    fill_record(record, &inbound, now_ns);
    ring_commit(loop->ring, record);
    stats_count(loop->stats, (uint64_t)inbound.n_packets, inbound.length);
    return true;
}

/* Passes on all whole messages in the staging. */
static enum parse_end parse(struct loop *loop) {
    uint64_t now_ns = clock_now_ns(), n_frames = 0;
    enum parse_end end = PARSE_NEEDS_MORE;
    while (loop->staging_end - loop->staging_start >= STREAM_LENGTH_PREFIX) {
        const uint8_t *prefix = loop->staging + loop->staging_start;
        size_t length = be16_read(prefix);
        if (length == 0 || length > message_limit(loop->format.wire)) {
            drop_message(loop, DROP_link_reader_bad_length, 0);
            end = PARSE_BAD_LENGTH;
            break;
        }
        if (loop->staging_end - loop->staging_start < STREAM_LENGTH_PREFIX + length)
            break;
        if (!pass_message(loop, prefix + STREAM_LENGTH_PREFIX, length, now_ns)) {
            end = PARSE_RING_FULL;
            break;
        }
        loop->staging_start += STREAM_LENGTH_PREFIX + length;
        n_frames++;
    }
    if (n_frames > 0)
        stats_batch(loop->stats, n_frames);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
    return end;
}

/* Moves the rest to the front, so that a whole message fits behind it. */
static void compact(struct loop *loop) {
    size_t rest = loop->staging_end - loop->staging_start;
    memmove(loop->staging, loop->staging + loop->staging_start, rest);
    loop->staging_start = 0;
    loop->staging_end = rest;
}

static enum loop_end end_of_stream(struct loop *loop) {
    if (loop->staging_end == loop->staging_start)
        return LOOP_LINK_CLOSED;
    drop_message(loop, DROP_link_reader_truncated, 0);
    loop->staging_start = loop->staging_end = 0;
    return LOOP_LINK_FAULT;
}

/* Takes what the stream has. *end is set when the link is over. */
static enum wait_end fill_staging(struct loop *loop, enum loop_end *end) {
    compact(loop);
    struct iovec room = {loop->staging + loop->staging_end, STAGING_LENGTH - loop->staging_end};
    ssize_t n = readv(loop->link_fd, &room, 1);
    stats_call(loop->stats, CALL_readv);
    if (n > 0) {
        loop->staging_end += (size_t)n;
        return WAIT_READY;
    }
    if (n < 0 && errno == EAGAIN)
        return wait_fd(loop->link_fd, POLLIN, -1, loop->channel_fd, loop->stats);
    if (n < 0 && errno == EINTR)
        return WAIT_READY;
    loop->error = n < 0 ? errno : 0;
    *end = end_of_stream(loop); /* a reset may cut a frame as well */
    if (n < 0)
        *end = LOOP_LINK_ERROR;
    return WAIT_READY;
}

enum loop_end link_reader_loop(struct loop *loop) {
    enum wait_end wait = WAIT_READY;
    enum loop_end end = LOOP_DOORBELL;
    while (wait == WAIT_READY && end == LOOP_DOORBELL && !waiter_is_rung(loop->self)) {
        if (loop->link_fd < 0) {
            wait = wait_fd(-1, 0, -1, loop->channel_fd, loop->stats);
            continue;
        }
        switch (parse(loop)) {
        case PARSE_NEEDS_MORE:
            wait = fill_staging(loop, &end);
            break;
        case PARSE_RING_FULL:
            wait = ring_wait_space(loop->ring, record_space(MESSAGE_MAX), loop->channel_fd,
                                   loop->stats);
            break;
        case PARSE_BAD_LENGTH:
            end = LOOP_LINK_FAULT;
            break;
        }
    }
    return end;
}
