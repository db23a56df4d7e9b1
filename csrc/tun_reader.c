/* tun-reader: the first stage of the outbound direction.
 *
 *   1. wait for ring space for one longest frame, then for the device
 *   2. read frames straight into the ring, behind room for their outer headers
 *   3. lay out the message around each where it lies
 *   4. publish the burst at once
 *
 * It alone reads the device queue and alone produces into the outbound ring.
 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum {
    /* A burst ends here even if the device has more: the link-writer should start meanwhile. */
    BURST_FRAMES_MAX = 64,
    BURST_BYTES_MAX = 256 * 1024,
    SLOT_OFFSET = sizeof(struct ring_record) + MESSAGE_HEADROOM,
    SLOT_SPACE = SLOT_OFFSET + VNET_LENGTH + DEVICE_FRAME_MAX,
};

enum burst_end { BURST_DRAINED, BURST_LIMIT, BURST_RING_FULL, BURST_DEVICE_GONE };

static enum stats_drop drop_reason(enum message_fault fault) {
    switch (fault) {
    case MESSAGE_NOT_IP:
        return DROP_tun_reader_not_ip;
    case MESSAGE_TOO_LARGE:
        return DROP_tun_reader_too_large;
    case MESSAGE_NOT_OFFERED:
        return DROP_tun_reader_not_offered;
    default:
        return DROP_tun_reader_bad_virtio;
    }
}

/* One frame, as the device wrote it into the slot, becomes a record. Returns its bytes. */
static size_t take_frame(struct loop *loop, struct ring_record *record, size_t read_length,
                         uint64_t now_ns) {
    uint8_t *vnet = (uint8_t *)record + SLOT_OFFSET;
    size_t frame_length = read_length - VNET_LENGTH;
    struct message_outbound message = {.n_packets = 1};
    enum message_fault fault = message_lay_out(&loop->format, vnet, frame_length, &message);
    uint64_t n_packets = message.n_packets > 0 ? (uint64_t)message.n_packets : 1;
    stats_count(loop->stats, n_packets, frame_length);
    if (fault != MESSAGE_OK) {
        stats_dropped(loop->stats, drop_reason(fault), n_packets);
        return 0;
    }
    *record = (struct ring_record){
        .offset = (uint32_t)(message.start - (uint8_t *)record),
        .length = (uint32_t)message.length,
        .n_packets = (uint32_t)n_packets,
        .n_bytes = (uint32_t)frame_length,
        .enqueued_ns = now_ns,
    };
    ring_commit(loop->ring, record);
    return frame_length;
}

static enum burst_end read_burst(struct loop *loop, size_t *n_frames) {
    uint64_t now_ns = clock_now_ns();
    size_t n_bytes = 0;
    while (*n_frames < BURST_FRAMES_MAX && n_bytes < BURST_BYTES_MAX) {
        struct ring_record *record = ring_reserve(loop->ring, SLOT_SPACE);
        if (record == NULL)
            return BURST_RING_FULL;
        ssize_t n =
            read(loop->device_fd, (uint8_t *)record + SLOT_OFFSET, SLOT_SPACE - SLOT_OFFSET);
        stats_call(loop->stats, CALL_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            loop->error = errno;
            /* EIO: the interface is down; ppoll sleeps until it is up again */
            return errno == EAGAIN || errno == EIO ? BURST_DRAINED : BURST_DEVICE_GONE;
        }
        if (n < VNET_LENGTH)
            continue; /* not seen from any kernel: a frame is never shorter than its header */
        n_bytes += take_frame(loop, record, (size_t)n, now_ns);
        ++*n_frames;
    }
    return BURST_LIMIT;
}

static enum burst_end pass_burst(struct loop *loop) {
    size_t n_frames = 0;
    enum burst_end end = read_burst(loop, &n_frames);
    if (n_frames > 0)
        stats_batch(loop->stats, n_frames);
    if (ring_has_unpublished(loop->ring))
        ring_publish(loop->ring, loop->stats);
    return end;
}

enum loop_end tun_reader_loop(struct loop *loop) {
    enum wait_end end = WAIT_READY;
    while (end == WAIT_READY && !waiter_is_rung(loop->self)) {
        switch (pass_burst(loop)) {
        case BURST_LIMIT:
            break;
        case BURST_DRAINED:
            end = wait_fd(loop->device_fd, POLLIN, -1, loop->channel_fd, loop->stats);
            break;
        case BURST_RING_FULL:
            end = ring_wait_space(loop->ring, SLOT_SPACE, loop->channel_fd, loop->stats);
            break;
        case BURST_DEVICE_GONE:
            return LOOP_DEVICE_GONE;
        }
    }
    return LOOP_DOORBELL;
}
