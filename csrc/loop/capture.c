#define _GNU_SOURCE
#include "loop/capture.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/peer_table.h"

struct capture *capture_new(struct ring *ring, struct stats_block *stats, unsigned stages, int slot,
                            size_t snap_length) {
    struct capture *capture = calloc(1, sizeof *capture);
    if (capture == NULL)
        return NULL;
    capture->ring = ring;
    capture->stats = stats;
    capture->stages = stages;
    capture->slot = slot;
    capture->snap_length = snap_length;
    return capture;
}

void capture_free(struct capture *capture) {
    free(capture);
}

static uint64_t realtime_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void write_path(const struct capture *capture, const struct udp_address *endpoint,
                       uint8_t *at) {
    struct capture_path path = {.local_port = 0};
    if (endpoint != NULL) {
        path.endpoint = *endpoint;
        path.local_port = capture->local_ports[endpoint->socket_index % N_SOCKETS];
    }
    memcpy(at, &path, sizeof path);
}

static void copy(uint8_t *to, size_t wanted, const struct iovec *iov) {
    for (; wanted > 0; iov++) {
        size_t n = iov->iov_len < wanted ? iov->iov_len : wanted;
        memcpy(to, iov->iov_base, n);
        to += n;
        wanted -= n;
    }
}

void capture_begin(struct capture *capture, const struct captured *what, const struct iovec *iov,
                   size_t n_iov) {
    if ((capture->stages & 1u << what->stage) == 0)
        return; /* and what is open may still hear why it is dropped */
    capture_end(capture);
    size_t length = 0;
    for (size_t i = 0; i < n_iov; i++)
        length += iov[i].iov_len;
    size_t n_copied = length < capture->snap_length ? length : capture->snap_length;
    size_t payload = sizeof(struct capture_path) + n_copied;
    capture->is_open = true;
    capture->what = *what;
    capture->reason = N_DROPS;
    capture->record =
        ring_reserve(capture->ring, sizeof *capture->record + payload + RING_RECORD_ALIGN);
    if (capture->record == NULL)
        return;
    capture->header = (struct ring_record){
        .offset = sizeof *capture->record,
        .length = (uint32_t)payload,
        .n_packets = 1,
        .n_bytes = (uint32_t)length,
        .link_id = (uint32_t)what->stage | (what->is_inbound ? CAPTURE_INBOUND : 0),
        .enqueued_ns = realtime_ns(),
    };
    uint8_t *at = (uint8_t *)capture->record + sizeof *capture->record;
    write_path(capture, what->endpoint, at);
    copy(at + sizeof(struct capture_path), n_copied, iov);
}

static bool is_wanted(const struct capture *capture) {
    return capture->slot == CAPTURE_ALL_PEERS || capture->what.slot == capture->slot ||
           capture->what.slot == CAPTURED_OF_ALL;
}

void capture_end(struct capture *capture) {
    if (!capture->is_open)
        return;
    capture->is_open = false;
    if (!is_wanted(capture))
        return;
    if (capture->record == NULL) {
        stats_add(&capture->ring->shared->n_lost[capture->what.stage], 1);
        return;
    }
    int slot = capture->what.slot;
    capture->header.slot = slot >= 0 && slot < N_PEER_SLOTS ? (uint32_t)slot : N_PEER_SLOTS;
    capture->header.segment = (uint32_t)capture->reason;
    *capture->record = capture->header;
    ring_commit(capture->ring, capture->record);
}

void capture_publish(struct capture *capture) {
    if (ring_has_unpublished(capture->ring))
        ring_publish(capture->ring, capture->stats);
}

void capture_abandon(struct capture *capture) {
    capture->is_open = false;
}

void capture_frame(struct capture *capture, const struct captured *what, const uint8_t *bytes,
                   size_t length) {
    struct iovec iov = {(uint8_t *)(uintptr_t)bytes, length};
    capture_begin(capture, what, &iov, 1);
}
