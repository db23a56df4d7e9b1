/* A super-packet goes as it is; plain packets are looked at for one another, on a TAP device those in
 * frames without a VLAN tag.
 *
 * Some kernels refuse super-packets that are in order (6.6.44 and its time, with EINVAL), and those
 * before 6.2 every one of UDP. Nothing is lost: the packets are written again one by one, and after
 * several refusals in a row that peer's packets are not coalesced for a while.
 */
#define _GNU_SOURCE
#include "inbound/frame_writer.h"

#include <errno.h>
#include <unistd.h>

#include "loop/reconcile.h"

enum {
    /* A kernel without the offload refuses every time; a refusal for another reason must not turn
     * it off for the peer's other packets. */
    REFUSALS_MAX = 8,
};

enum write_end { WRITE_DONE, WRITE_DEVICE_GONE, WRITE_DEVICE_DOWN, WRITE_FULL, WRITE_REFUSED };

static bool is_plain_packet(const struct tun_writer *writer, const struct ring_view *record);
static bool may_coalesce(const struct tun_writer *writer, unsigned slot, bool is_udp);
static void write_together(struct tun_writer *writer, struct frame_run *run);
static enum write_end write_parts(struct tun_writer *writer, const struct iovec *parts,
                                  int n_parts);
static void write_singly(struct tun_writer *writer, const struct frame_run *run, int error);
static enum write_end write_record(struct tun_writer *writer, const struct ring_view *record);
static enum write_end end_of_write(ssize_t written);
static void account(struct tun_writer *writer, enum write_end end, uint32_t n_packets,
                    uint64_t n_bytes);
static void capture(struct tun_writer *writer, const struct iovec *parts, int n_parts,
                    unsigned slot, enum write_end end);

/* -- runs -------------------------------------------------------------------------------------- */

void frame_run_add(struct tun_writer *writer, struct frame_run *run,
                   const struct ring_view *record) {
    struct gro_group *group = &run->group;
    bool is_plain = is_plain_packet(writer, record);
    bool is_of_the_peer = group->n_packets == 0 || run->records[0]->slot == record->slot;
    const uint8_t *frame = record->payload + VNET_LENGTH;
    size_t length = record->length - VNET_LENGTH;
    size_t lead = writer->loop.mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0;
    if (is_plain && is_of_the_peer && gro_extend(group, frame, length)) {
        run->records[group->n_packets - 1] = record;
        return;
    }
    frame_run_end(writer, run);
    if (is_plain && gro_begin(group, frame, length, lead) &&
        may_coalesce(writer, record->slot, group->is_udp)) {
        run->records[0] = record;
        return;
    }
    group->n_packets = 0;
    write_record(writer, record);
}

static bool is_plain_packet(const struct tun_writer *writer, const struct ring_view *record) {
    if (writer->coalesce == DEVICE_OFFLOAD_NONE || record->length <= VNET_LENGTH)
        return false;
    struct vnet vnet = vnet_read(record->payload);
    return vnet_is_plain(&vnet) &&
           (writer->loop.mode == MODE_TUN ||
            ethernet_find_ip(record->payload + VNET_LENGTH, record->length - VNET_LENGTH) ==
                ETHERNET_HEADER_SIZE);
}

static bool may_coalesce(const struct tun_writer *writer, unsigned slot, bool is_udp) {
    const struct refusals *refusals = &writer->groups[slot % N_PEER_SLOTS][is_udp];
    return (refusals->off_until_ns == 0 || !refusals_is_off(refusals, clock_now_ns())) &&
           (!is_udp || writer->coalesce == DEVICE_OFFLOAD_TCP_UDP);
}

void frame_run_end(struct tun_writer *writer, struct frame_run *run) {
    if (run->group.n_packets == 1)
        write_record(writer, run->records[0]);
    else if (run->group.n_packets > 1)
        write_together(writer, run);
    run->group.n_packets = 0;
}

/* -- super-packets of our own ------------------------------------------------------------------ */

static struct refusals *refusals_of(struct tun_writer *writer, const struct frame_run *run) {
    return &writer->groups[run->records[0]->slot % N_PEER_SLOTS][run->group.is_udp];
}

static void note_group_taken(struct tun_writer *writer, const struct frame_run *run) {
    struct refusals *refusals = refusals_of(writer, run);
    if (refusals->n > 0 && refusals_end(refusals))
        loop_note_news(&writer->loop, refusals);
}

static void note_group_refused(struct tun_writer *writer, const struct frame_run *run, int error) {
    struct refusals *refusals = refusals_of(writer, run);
    stats_add(&writer->loop.stats->counters[COUNTER_refused_offloads], 1);
    if (refusals_add(refusals, REFUSALS_MAX, error, clock_now_ns()))
        loop_note_news(&writer->loop, refusals);
}

static void write_together(struct tun_writer *writer, struct frame_run *run) {
    int n_parts = gro_finish(&run->group);
    ring_begin(writer->loop.ring, run->records[run->group.n_packets - 1]->end);
    enum write_end end = write_parts(writer, run->group.iov, n_parts);
    if (end == WRITE_REFUSED) {
        write_singly(writer, run, errno);
        return;
    }
    if (end == WRITE_DONE)
        note_group_taken(writer, run);
    uint32_t n_packets = 0;
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < run->group.n_packets; i++) {
        n_packets += run->records[i]->n_packets;
        n_bytes += run->records[i]->n_bytes;
    }
    account(writer, end, n_packets, n_bytes);
    if (writer->loop.capture != NULL)
        capture(writer, run->group.iov, n_parts, run->records[0]->slot, end);
}

static enum write_end write_parts(struct tun_writer *writer, const struct iovec *parts,
                                  int n_parts) {
    ssize_t n;
    do {
        n = writev(writer->loop.device_fd, parts, n_parts);
        stats_call(writer->loop.stats, CALL_writev);
    } while (n < 0 && errno == EINTR);
    return end_of_write(n);
}

/* If one packet of a refused group was the cause, that packet is refused as well. */
static void write_singly(struct tun_writer *writer, const struct frame_run *run, int error) {
    bool is_refused = false;
    for (size_t i = 0; i < run->group.n_packets; i++)
        is_refused = write_record(writer, run->records[i]) != WRITE_DONE || is_refused;
    if (!is_refused)
        note_group_refused(writer, run, error);
}

/* -- one write --------------------------------------------------------------------------------- */

static enum write_end write_record(struct tun_writer *writer, const struct ring_view *record) {
    ssize_t n;
    ring_begin(writer->loop.ring, record->end);
    do {
        n = write(writer->loop.device_fd, record->payload, record->length);
        stats_call(writer->loop.stats, CALL_write);
    } while (n < 0 && errno == EINTR);
    enum write_end end = end_of_write(n);
    account(writer, end, record->n_packets, record->n_bytes);
    if (writer->loop.capture != NULL)
        capture(writer, &(struct iovec){record->payload, record->length}, 1, record->slot, end);
    return end;
}

static enum write_end end_of_write(ssize_t written) {
    if (written >= 0)
        return WRITE_DONE;
    switch (errno) {
    case EBADFD:
        return WRITE_DEVICE_GONE;
    case EIO:
        return WRITE_DEVICE_DOWN;
    case EAGAIN:
    case ENOMEM:
    case ENOBUFS:
        return WRITE_FULL;
    default:
        return WRITE_REFUSED;
    }
}

/* N_DROPS: it was not dropped. */
static enum stats_drop drop_of(enum write_end end) {
    switch (end) {
    case WRITE_DONE:
        return N_DROPS;
    case WRITE_DEVICE_GONE:
    case WRITE_DEVICE_DOWN:
        return DROP_tun_writer_device_down;
    case WRITE_FULL:
        return DROP_tun_writer_device_full;
    default:
        return DROP_tun_writer_device_refused;
    }
}

/* One frame with so many packets, written or not. */
static void account(struct tun_writer *writer, enum write_end end, uint32_t n_packets,
                    uint64_t n_bytes) {
    enum stats_drop reason = drop_of(end);
    n_packets = reconcile_uncounted(&writer->loop, n_packets);
    if (end == WRITE_DEVICE_GONE)
        writer->loop.error = EBADFD;
    if (reason == N_DROPS)
        stats_count(writer->loop.stats, n_packets, n_bytes);
    else
        stats_dropped(writer->loop.stats, reason, n_packets);
}

/* -- captures ---------------------------------------------------------------------------------- */

/* The frame is in the parts, its virtio_net_hdr first. */
static void capture(struct tun_writer *writer, const struct iovec *parts, int n_parts,
                    unsigned slot, enum write_end end) {
    struct captured what = {CAPTURE_DEVICE, true, (int)slot, NULL};
    struct iovec frame[1 + GRO_PACKETS_MAX];
    for (int i = 0; i < n_parts; i++)
        frame[i] = parts[i];
    frame[0].iov_base = (uint8_t *)frame[0].iov_base + VNET_LENGTH;
    frame[0].iov_len -= VNET_LENGTH;
    capture_begin(writer->loop.capture, &what, frame, (size_t)n_parts);
    capture_drop(writer->loop.capture, drop_of(end));
    capture_end(writer->loop.capture);
    capture_publish(writer->loop.capture);
}
