/* A record's way through the ring, both of its ends in this thread, so neither ever sleeps.
 *
 * The payload is copied in, where the device's read or the link's would put it, and out again, as
 * the write at the other end does. Records are published and released in batches, as in a tunnel.
 * The ring is the smallest there is: a larger one would not stay in the second-level cache, and the
 * time would be that of whatever else uses the third.
 */
#include <errno.h>
#include <unistd.h>

#include "fastun.h"
#include "measured_subjects.h"
#include "shared/ring.h"

enum { RING_BYTES = RING_SIZE_MIN, BATCH = 16, PAYLOAD_MAX = 1 << 16 };

static struct ring *producer, *consumer;
static struct stats_block stats;
static uint8_t came[PAYLOAD_MAX], went[PAYLOAD_MAX];
static uint32_t payload;

/* The memory stays when its descriptor is closed. */
static int make_ring(void) {
    int fd, error;
    producer = ring_create(RING_BYTES, &fd);
    if (producer == NULL)
        return -errno;
    consumer = ring_attach(fd, RING_BYTES);
    error = consumer == NULL ? -errno : 0;
    close(fd);
    return error;
}

int prepare_ring(size_t size, int kind) {
    (void)kind;
    if (size > sizeof came)
        return -EINVAL;
    payload = (uint32_t)size;
    return consumer == NULL ? make_ring() : 0;
}

/* As many of `n` as there is room for. */
static void produce(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        struct ring_record *record = ring_reserve(producer, sizeof *record + payload);
        if (record == NULL)
            break;
        *record = (struct ring_record){
            .offset = sizeof *record, .length = payload, .n_packets = 1, .n_bytes = payload};
        memcpy(ring_payload(record), came, payload);
        ring_commit(producer, record);
    }
    ring_publish(producer, &stats);
}

static uint64_t consume(void) {
    const struct ring_view *record;
    uint64_t cursor = ring_first(consumer), n = 0;
    bool corrupt = false;
    while ((record = ring_peek(consumer, &cursor, &corrupt)) != NULL) {
        memcpy(went, record->payload, record->length);
        keep(went);
        n++;
    }
    ring_release(consumer, cursor, &stats);
    return n;
}

uint64_t run_ring(uint64_t n) {
    uint64_t done = 0;
    while (done < n) {
        produce(n - done < BATCH ? n - done : BATCH);
        uint64_t consumed = consume();
        if (consumed == 0)
            break;
        done += consumed;
    }
    return done;
}
