/* tun-reader: the first stage of the outbound direction.
 *
 *   1. wait for ring space for one longest frame, then for the device
 *   2. read frames straight into the ring, behind room for their outer headers
 *   3. find the peer by the destination address, make the message around each frame where it lies,
 *      or split it, and seal in place (frame.c)
 *   4. publish the burst at once
 *
 * It alone reads the device queue, alone holds the sending keys and alone produces into the
 * outbound ring.
 */
#define _GNU_SOURCE
#include "outbound/tun_reader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "outbound/captured_out.h"
#include "outbound/crossing.h"
#include "outbound/flooding.h"
#include "outbound/frame.h"
#include "outbound/hairpin.h"
#include "outbound/own_packets.h"
#include "outbound/parking.h"
#include "outbound/send_in_place.h"
#include "outbound/shaped_out.h"
#include "outbound/splitting.h"

enum {
    /* A burst ends here even if the device has more: the link-writer should start meanwhile. */
    READ_FRAMES_MAX = 64,
    READ_BYTES_MAX = 256 * 1024,

    /* How long the device's queue holds packets for a dialling side without a session: it covers a
     * handshake, a worker's restart and the re-dial, and what is older is of little use to TCP. */
    HOLD_MS = 1000,
    PARKING_LOOK_MS = 500,
};

static enum step next_step(struct tun_reader *reader);
static enum step report_wanted(struct tun_reader *reader);
static enum step forward_burst(struct tun_reader *reader);
static enum step step_without_room(const struct tun_reader *reader);
static enum step read_burst(struct tun_reader *reader, size_t *n_frames);
static enum step wait_for_frame(struct tun_reader *reader);
static int hold_ms(struct tun_reader *reader);
static bool begins_to_hold(struct tun_reader *reader, uint64_t boottime_ns);
static enum step hold(struct tun_reader *reader, int timeout_ms);

/* -- the loop ---------------------------------------------------------------------------------- */

enum loop_end tun_reader_loop(struct tun_reader *reader) {
    enum step step = STEP_MORE;
    allowedips_settle(reader->allowed_ips); /* commands have changed them between two runs */
    while (step == STEP_MORE && !waiter_is_rung(reader->loop.self))
        step = next_step(reader);
    return loop_end_of(step);
}

static enum step next_step(struct tun_reader *reader) {
    struct loop *loop = &reader->loop;
    int timeout_ms = hold_ms(reader);
    if (reader->wanted.slot >= 0)
        return report_wanted(reader);
    if (timeout_ms > 0)
        return hold(reader, timeout_ms);
    enum step step = forward_burst(reader);
    if (step == STEP_IDLE)
        return wait_for_frame(reader);
    if (step == STEP_RING_FULL)
        return step_after_wait(
            ring_wait_space(loop->ring, FRAME_SPACE, loop->channel_fd, loop->stats));
    return step;
}

static enum step report_wanted(struct tun_reader *reader) {
    unsigned slot = (unsigned)reader->wanted.slot;
    const struct tun_reader_link *link = reader->links[slot];
    reader->wanted.slot = -1;
    return loop_report(&reader->loop, slot, link != NULL ? link->id : 0, EVENT_NO_SESSION, 0);
}

/* -- a burst ----------------------------------------------------------------------------------- */

/* What other workers have for this one: of other peers, or of other lanes. */
static enum step others_burst(struct tun_reader *reader) {
    if (reader->loop.hairpin != NULL)
        return hairpin_burst(reader);
    return reader->crossing != NULL ? crossing_burst(reader) : STEP_IDLE;
}

static enum step forward_burst(struct tun_reader *reader) {
    struct loop *loop = &reader->loop;
    size_t n_frames = 0;
    bool has_room = reader->parking->n == 0 || parking_release(reader);
    has_room = has_room && (reader->shaping.n_holding == 0 || shaped_out_release(reader));
    bool has_more = has_room && others_burst(reader) == STEP_MORE;
    enum step step = has_room ? read_burst(reader, &n_frames) : step_without_room(reader);
    if (has_more && step == STEP_IDLE)
        step = STEP_MORE;
    if (n_frames > 0) {
        stats_batch(loop->stats, n_frames);
        pace_accepted();
    }
    if (ring_has_unpublished(loop->ring))
        send_in_place_publish(reader);
    if (reader->crossing != NULL)
        crossing_publish(reader);
    return step;
}

struct ring_record *tun_reader_reserve(struct tun_reader *reader) {
    if (reader->flooding != NULL && !flooding_continue(reader))
        return NULL;
    return splitting_continue(reader) ? ring_reserve(reader->loop.ring, FRAME_SPACE) : NULL;
}

static enum step step_without_room(const struct tun_reader *reader) {
    return reader->wanted.slot < 0 ? STEP_RING_FULL : STEP_MORE;
}

/* EIO: the interface is down; ppoll sleeps until it is up again. A kernel without memory has it again
 * in a moment, and an administrator may change a policy back. A deleted interface is none of them. */
static bool may_work_again(int error) {
    return error == EAGAIN || error == EIO || error == ENOMEM || error == ENOBUFS ||
           error == EPERM || error == EACCES;
}

/* Nothing was read: usually because there is nothing, which says nothing of what else there is to do
 * (the hairpin, what waits for a session or a rate limit): EAGAIN refuses nothing. */
static enum step read_failed(struct tun_reader *reader, int error, size_t n_frames) {
    struct loop *loop = &reader->loop;
    loop->error = error;
    if (!may_work_again(error))
        return STEP_DEVICE_GONE;
    if (n_frames == 0 && error != EAGAIN)
        pace_refused();
    return STEP_IDLE;
}

static enum step read_burst(struct tun_reader *reader, size_t *n_frames) {
    struct loop *loop = &reader->loop;
    struct arrival arrival = {-1, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    size_t n_bytes = 0;
    if (begins_to_hold(reader, arrival.boottime_ns))
        return reader->hold.since_ns == 0 ? STEP_IDLE : STEP_MORE;
    /* A session that is wanted is reported before the next one can be. */
    while (*n_frames < READ_FRAMES_MAX && n_bytes < READ_BYTES_MAX && reader->wanted.slot < 0) {
        struct ring_record *record = tun_reader_reserve(reader);
        if (record == NULL)
            return step_without_room(reader);
        ssize_t n =
            read(loop->device_fd, frame_target(reader, record), VNET_LENGTH + DEVICE_FRAME_MAX);
        stats_call(loop->stats, CALL_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return read_failed(reader, errno, *n_frames);
        if (n < VNET_LENGTH)
            continue; /* not seen from any kernel: a frame is never shorter than its header */
        n_bytes += loop->capture == NULL ? frame_forward(reader, record, (size_t)n, &arrival)
                                         : captured_forward(reader, record, (size_t)n, &arrival);
        ++*n_frames;
    }
    return STEP_MORE;
}

/* Frames that wait for a session are looked at now and then, since they must not wait for ever; those
 * of a rate limit when their time comes. */
static int wait_ms(const struct tun_reader *reader) {
    int parked_ms = reader->parking->n > 0 ? PARKING_LOOK_MS : -1;
    if (reader->shaping.n_holding == 0)
        return parked_ms;
    int shaped_ms = shaping_wait_ms(&reader->shaping, clock_now_ns());
    return parked_ms >= 0 && parked_ms < shaped_ms ? parked_ms : shaped_ms;
}

static enum step wait_for_frame(struct tun_reader *reader) {
    struct loop *loop = &reader->loop;
    int timeout_ms = wait_ms(reader);
    if (reader->wanted.slot >= 0)
        return STEP_MORE;
    if (loop->hairpin != NULL)
        return hairpin_wait(reader, timeout_ms);
    if (reader->crossing != NULL)
        return crossing_wait(reader, timeout_ms);
    return step_after_wait(
        wait_fd(loop->device_fd, POLLIN, timeout_ms, loop->channel_fd, loop->stats));
}

/* -- holding the device's queue ---------------------------------------------------------------- */

static bool is_without_session(const struct tun_reader *reader, uint64_t boottime_ns) {
    return reader->hold.is_wanted && !frame_link_is_open(reader, reader->links[0], boottime_ns) &&
           (reader->crossing == NULL || !crossing_leads_away(reader->crossing, 0));
}

/* For how many more ms the device is left alone because the only session is in the making. */
static int hold_ms(struct tun_reader *reader) {
    if (reader->hold.since_ns == 0)
        return 0;
    if (!is_without_session(reader, clock_boottime_ns())) {
        reader->hold.since_ns = 0;
        return 0;
    }
    uint64_t held_ms = (clock_now_ns() - reader->hold.since_ns) / 1000000;
    return held_ms < HOLD_MS ? (int)(HOLD_MS - held_ms) : 0;
}

static bool has_frame(const struct tun_reader *reader) {
    struct pollfd device = {.fd = reader->loop.device_fd, .events = POLLIN};
    return ppoll(&device, 1, &(struct timespec){0}, NULL) > 0;
}

/* The time runs from the first frame on that finds no session: one may lapse long before. Until then
 * there is nothing to read. */
static bool begins_to_hold(struct tun_reader *reader, uint64_t boottime_ns) {
    if (reader->hold.since_ns != 0 || !is_without_session(reader, boottime_ns))
        return false;
    if (has_frame(reader))
        reader->hold.since_ns = clock_now_ns();
    return true;
}

/* What waits in the device's queue asks for a session; nothing else would. */
static enum step hold(struct tun_reader *reader, int timeout_ms) {
    struct loop *loop = &reader->loop;
    bool has_asked = has_frame(reader); /* and once is enough for a while */
    if (has_asked)
        parking_want_session(reader, 0, clock_now_ns());
    if (reader->wanted.slot >= 0)
        return STEP_MORE;
    return step_after_wait(wait_fd(has_asked ? -1 : loop->device_fd, POLLIN, timeout_ms,
                                   loop->channel_fd, loop->stats));
}

/* -- life -------------------------------------------------------------------------------------- */

static int prepare(struct tun_reader *reader) {
    reader->allowed_ips = allowedips_new();
    reader->splitting = splitting_new();
    reader->parking = parking_new();
    reader->own_packets = own_packets_new();
    reader->origin = ORIGIN_DEVICE;
    if (reader->loop.macs != NULL && (reader->flooding = flooding_new()) == NULL)
        return -ENOMEM;
    if (reader->allowed_ips == NULL || reader->splitting == NULL || reader->parking == NULL ||
        reader->own_packets == NULL)
        return -ENOMEM;
    return answer_limit_init(&reader->answers);
}

struct loop *tun_reader_new(const struct loop *common) {
    struct tun_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return NULL;
    reader->loop = *common;
    reader->wanted.slot = -1;
    shaping_init(&reader->shaping);
    for (unsigned i = 0; i < N_SOCKETS; i++)
        reader->sockets[i].fd = -1;
    int error = prepare(reader);
    if (error == 0)
        return &reader->loop;
    tun_reader_free(reader);
    errno = -error;
    return NULL;
}

void tun_reader_free(struct tun_reader *reader) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++)
        tun_reader_detach(reader, slot);
    shaping_free(&reader->shaping);
    splitting_free(reader->splitting);
    flooding_free(reader->flooding);
    parking_free(reader->parking);
    crossing_free(reader->crossing);
    own_packets_free(reader->own_packets);
    if (reader->allowed_ips != NULL)
        allowedips_free(reader->allowed_ips);
    free(reader);
}

int tun_reader_attach(struct tun_reader *reader, unsigned slot, uint32_t link_id, int fd,
                      const struct link_format *format) {
    struct tun_reader_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->id = link_id;
    link->fd = fd;
    link->format = loop_bounded_format(&reader->loop, format);
    reader->links[slot] = link;
    reader->n_links++;
    reader->last_slot = slot;
    return 0;
}

void tun_reader_detach(struct tun_reader *reader, unsigned slot) {
    struct tun_reader_link *link = reader->links[slot];
    if (link == NULL)
        return;
    sending_key_free(link->sending);
    free(link);
    reader->links[slot] = NULL;
    reader->n_links--;
    own_packets_changed(reader->own_packets);
}

void tun_reader_forget_peer(struct tun_reader *reader, unsigned slot) {
    uint64_t n_bytes;
    uint64_t n = shaping_empty(&reader->shaping, slot, clock_now_ns(), &n_bytes);
    frame_drop(reader, DROP_tun_reader_rate_limit, n, n_bytes);
    if (reader->flooding != NULL) /* else they go by their addresses, to the peer that has those */
        parking_forget(reader, slot);
}
