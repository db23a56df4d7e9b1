/* link-reader: the first stage of the inbound direction.
 *
 *   1. read as much of a stream as there is, up to the staging's size; one read a link and round
 *   2. cut it into messages by their length prefix
 *   3. bring each message's content into the ring: opened, on the sealed wire, else copied
 *   4. take it apart where it lies; check everything, for it comes from the network
 *   5. publish what one read gave, read again; a full ring stops the reading, and so the peers
 *
 * It alone reads the sockets, alone holds the receiving keys and alone produces into the inbound
 * ring. Handshake messages go up to the gateway.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "byteorder.h"

enum {
    EPOLL_EVENTS_MAX = 64,
    /* Where a message's content begins in its record, so that the frame in it can get its
     * virtio_net_hdr in front: a bare packet has nothing there yet. */
    CONTENT_OFFSET = sizeof(struct ring_record) + VNET_LENGTH,
};

enum parse_end { PARSE_NEEDS_MORE, PARSE_RING_FULL, PARSE_BAD_LENGTH, PARSE_EVENT };

static void drop_message(struct loop *loop, enum stats_drop reason, size_t length) {
    stats_count(loop->stats, 1, length);
    stats_dropped(loop->stats, reason, 1);
}

static size_t record_space(size_t message_length) {
    size_t used = CONTENT_OFFSET + message_length;
    return (used + RING_RECORD_ALIGN - 1) & ~(size_t)(RING_RECORD_ALIGN - 1);
}

/* -- content ----------------------------------------------------------------------------------- */

static enum stats_drop fault_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_link_reader_not_ip;
    case MESSAGE_BAD_VIRTIO:
        return DROP_link_reader_bad_virtio;
    default:
        return DROP_link_reader_bad_type;
    }
}

static bool is_own_source(struct loop *loop, unsigned slot, const uint8_t *frame) {
    if (loop->wire != WIRE_WIREGUARD || loop->mode == MODE_TAP)
        return true;
    return allowedips_lookup_ip(loop->allowed_ips, frame, true) == (int)slot;
}

/* The content stands in the record; makes a frame of it, or drops it. */
static void pass_content(struct loop *loop, unsigned slot, struct ring_record *record,
                         size_t length, uint64_t now_ns) {
    struct message_inbound inbound;
    uint8_t *content = (uint8_t *)record + CONTENT_OFFSET;
    enum message_fault fault =
        message_take_apart(&loop->links[slot]->format, content, length, &inbound);
    if (fault != MESSAGE_OK) {
        drop_message(loop, fault_reason(fault), length);
        return;
    }
    stats_count(loop->stats, (uint64_t)inbound.n_packets, inbound.length);
    if (!is_own_source(loop, slot, inbound.frame)) {
        stats_dropped(loop->stats, DROP_link_reader_bad_source, (uint64_t)inbound.n_packets);
        return;
    }
    uint8_t *vnet = inbound.frame - VNET_LENGTH;
    vnet_write(&inbound.vnet, vnet);
    *record = (struct ring_record){
        .offset = (uint32_t)(vnet - (uint8_t *)record),
        .length = (uint32_t)(VNET_LENGTH + inbound.length),
        .n_packets = (uint32_t)inbound.n_packets,
        .n_bytes = (uint32_t)inbound.length,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
    stats_add(&loop->peers->slots[slot].receive_packets, (uint64_t)inbound.n_packets);
    stats_add(&loop->peers->slots[slot].receive_bytes, inbound.length);
}

/* -- sealed messages --------------------------------------------------------------------------- */

static struct receiving_key *find_key(struct loop_link *link, uint32_t index) {
    for (unsigned i = 0; i < N_RECEIVING_KEYS; i++)
        if (link->receiving[i] != NULL && link->receiving[i]->index == index)
            return link->receiving[i];
    return NULL;
}

static enum stats_drop open_reason(int fault) {
    switch (fault) {
    case OPEN_BAD_TYPE:
        return DROP_link_reader_bad_type;
    case OPEN_REPLAYED:
        return DROP_link_reader_replayed;
    default:
        return DROP_link_reader_bad_tag;
    }
}

static void mark_received(struct loop *loop, unsigned slot, bool is_data) {
    uint64_t now_ns = clock_boottime_ns();
    peer_set(&loop->peers->slots[slot].received_ns, now_ns);
    if (is_data)
        peer_set(&loop->peers->slots[slot].received_data_ns, now_ns);
}

/* Returns PARSE_EVENT when this was the first message under its key. */
static enum parse_end pass_data(struct loop *loop, unsigned slot, struct ring_record *record,
                                const uint8_t *message, size_t length, uint64_t now_ns) {
    struct receiving_key *key = find_key(loop->links[slot], session_receiver_index(message));
    if (key == NULL) {
        drop_message(loop, DROP_link_reader_unknown_index, length);
        return PARSE_NEEDS_MORE;
    }
    int opened = session_open(key, message, length, (uint8_t *)record + CONTENT_OFFSET);
    if (opened < 0) {
        drop_message(loop, open_reason(opened), length);
        return PARSE_NEEDS_MORE;
    }
    mark_received(loop, slot, opened > 0);
    if (opened > 0)
        pass_content(loop, slot, record, (size_t)opened, now_ns);
    if (key->is_confirmed)
        return PARSE_NEEDS_MORE;
    key->is_confirmed = true;
    loop->event.index = key->index;
    loop_report(loop, slot, EVENT_CONFIRMED, 0);
    return PARSE_EVENT;
}

static enum parse_end pass_sealed(struct loop *loop, unsigned slot, struct ring_record *record,
                                  const uint8_t *message, size_t length, uint64_t now_ns) {
    if (session_is_data(message, length))
        return pass_data(loop, slot, record, message, length, now_ns);
    if (!session_is_handshake(message, length)) {
        drop_message(loop, DROP_link_reader_bad_type, length);
        return PARSE_NEEDS_MORE;
    }
    memcpy(loop->event.bytes, message, length);
    loop->event.length = (uint32_t)length;
    loop_report(loop, slot, EVENT_HANDSHAKE, 0);
    return PARSE_EVENT;
}

/* -- the stream -------------------------------------------------------------------------------- */

static enum parse_end pass_message(struct loop *loop, unsigned slot, const uint8_t *message,
                                   size_t length, uint64_t now_ns) {
    struct ring_record *record = ring_reserve(loop->ring, record_space(length));
    if (record == NULL)
        return PARSE_RING_FULL;
    if (loop->wire == WIRE_WIREGUARD)
        return pass_sealed(loop, slot, record, message, length, now_ns);
    memcpy((uint8_t *)record + CONTENT_OFFSET, message, length);
    pass_content(loop, slot, record, length, now_ns);
    return PARSE_NEEDS_MORE;
}

/* Passes on all whole messages in the staging, or as far as it can. */
static enum parse_end parse(struct loop *loop, unsigned slot) {
    struct loop_link *link = loop->links[slot];
    uint64_t now_ns = clock_now_ns(), n_frames = 0;
    enum parse_end end = PARSE_NEEDS_MORE;
    while (end == PARSE_NEEDS_MORE &&
           link->staging_end - link->staging_start >= STREAM_LENGTH_PREFIX) {
        const uint8_t *prefix = link->staging + link->staging_start;
        size_t length = be16_read(prefix);
        if (length == 0 || length > message_limit(loop->wire)) {
            drop_message(loop, DROP_link_reader_bad_length, 0);
            end = PARSE_BAD_LENGTH;
            break;
        }
        if (link->staging_end - link->staging_start < STREAM_LENGTH_PREFIX + length)
            break;
        end = pass_message(loop, slot, prefix + STREAM_LENGTH_PREFIX, length, now_ns);
        if (end == PARSE_RING_FULL)
            break;
        link->staging_start += STREAM_LENGTH_PREFIX + length;
        n_frames++;
    }
    if (n_frames > 0)
        stats_batch(loop->stats, n_frames);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
    return end;
}

/* Moves the rest to the front, so that a whole message fits behind it. */
static void compact(struct loop_link *link) {
    size_t rest = link->staging_end - link->staging_start;
    memmove(link->staging, link->staging + link->staging_start, rest);
    link->staging_start = 0;
    link->staging_end = rest;
}

/* The stream ended, by itself (error 0) or by a reset; either may cut a frame. */
static enum loop_end end_of_stream(struct loop *loop, unsigned slot, int error) {
    struct loop_link *link = loop->links[slot];
    bool is_cut = link->staging_end != link->staging_start;
    if (is_cut)
        drop_message(loop, DROP_link_reader_truncated, 0);
    link->staging_start = link->staging_end = 0;
    if (error != 0)
        return loop_report(loop, slot, EVENT_LINK_ERROR, error);
    return loop_report(loop, slot, is_cut ? EVENT_LINK_FAULT : EVENT_LINK_CLOSED, 0);
}

/* Parses; goes on when the ring has room again. */
static enum loop_end parse_all(struct loop *loop, unsigned slot, enum wait_end *wait) {
    loop->unparsed_slot = (int)slot;
    while (*wait == WAIT_READY && !waiter_is_rung(loop->self)) {
        switch (parse(loop, slot)) {
        case PARSE_NEEDS_MORE:
            loop->unparsed_slot = -1;
            return LOOP_DOORBELL;
        case PARSE_RING_FULL:
            *wait = ring_wait_space(loop->ring, record_space(MESSAGE_MAX), loop->channel_fd,
                                    loop->stats);
            break;
        case PARSE_BAD_LENGTH:
            loop->unparsed_slot = -1;
            return loop_report(loop, slot, EVENT_LINK_FAULT, 0);
        case PARSE_EVENT:
            return LOOP_EVENT; /* there may be more; it is parsed when the loop runs again */
        }
    }
    *wait = WAIT_DOORBELL;
    return LOOP_DOORBELL;
}

/* One read of one link. LOOP_DOORBELL: nothing to report. */
static enum loop_end read_link(struct loop *loop, unsigned slot, enum wait_end *wait) {
    struct loop_link *link = loop->links[slot];
    if (link == NULL || link->is_over)
        return LOOP_DOORBELL;
    compact(link);
    struct iovec room = {link->staging + link->staging_end, STAGING_LENGTH - link->staging_end};
    ssize_t n = readv(link->fd, &room, 1);
    stats_call(loop->stats, CALL_readv);
    if (n > 0) {
        link->staging_end += (size_t)n;
        return parse_all(loop, slot, wait);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return LOOP_DOORBELL;
    return end_of_stream(loop, slot, n < 0 ? errno : 0);
}

/* Waits for links that can be read, and reads each once. */
static enum loop_end read_round(struct loop *loop, enum wait_end *wait) {
    struct epoll_event events[EPOLL_EVENTS_MAX];
    enum loop_end end = LOOP_DOORBELL;
    int n = epoll_wait(loop->epoll_fd, events, EPOLL_EVENTS_MAX, -1);
    stats_call(loop->stats, CALL_epoll_wait);
    for (int i = 0; i < n; i++)
        if (events[i].data.u32 == POLL_CHANNEL)
            *wait = WAIT_DOORBELL;
    for (int i = 0; i < n && *wait == WAIT_READY && end == LOOP_DOORBELL; i++)
        end = read_link(loop, events[i].data.u32, wait);
    return end;
}

enum loop_end link_reader_loop(struct loop *loop) {
    enum wait_end wait = WAIT_READY;
    enum loop_end end = LOOP_DOORBELL;
    if (loop->unparsed_slot >= 0)
        end = parse_all(loop, (unsigned)loop->unparsed_slot, &wait);
    while (wait == WAIT_READY && end == LOOP_DOORBELL && !waiter_is_rung(loop->self))
        end = read_round(loop, &wait);
    return end;
}
