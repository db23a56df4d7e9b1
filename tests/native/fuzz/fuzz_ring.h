/* fuzz_ring: a ring that its producer, a worker in an attacker's hands, has filled as the input says.
 * A record: `what u8, slot u8, length u16, value u32, payload`. */
#ifndef FUZZ_RING_H
#define FUZZ_RING_H

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"
#include "lane_memory.h"
#include "packet/byteorder.h"
#include "worker_thread.h"

enum { RECORD_LEAD = 8, RECORD_FIELDS = 9, RECORD_MAX = 4096 };

/* In the place of the C library's: whoever would sleep until there is a record has slept his time.
 * So an input takes as long as it has records, and not a heartbeat. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long of[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        of[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_futex && (int)of[1] == FUTEX_WAIT) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(number, of[0], of[1], of[2], of[3], of[4], of[5]);
}

/* Bits of `what`: 1 the 32 bits of one field are `value`, 2 the segment is `value`'s low half. The
 * rest says which field. */
static inline void fuzz_bend(struct ring_record *record, uint8_t what, uint32_t value) {
    uint32_t *fields = (uint32_t *)(void *)record;
    if ((what & 2) != 0)
        record->segment = (uint16_t)value;
    if ((what & 1) != 0)
        fields[(what >> 2) % RECORD_FIELDS] = value;
}

/* Returns how many packets are in records that were left as they should be, and whether all were. */
static inline uint64_t fuzz_fill_ring(struct ring *ring, struct stats_block *stats,
                                      const uint8_t *data, size_t size, bool *is_sound) {
    uint64_t n_packets = 0;
    *is_sound = true;
    while (size >= RECORD_LEAD) {
        size_t length = le16_read(data + 2) % RECORD_MAX;
        length = length < size - RECORD_LEAD ? length : size - RECORD_LEAD;
        struct ring_record *record =
            ring_reserve(ring, sizeof *record + length + RING_RECORD_ALIGN);
        if (record == NULL)
            break;
        *record = (struct ring_record){.offset = sizeof *record,
                                       .length = (uint32_t)length,
                                       .n_packets = 1,
                                       .n_bytes = (uint32_t)length,
                                       .slot = data[1] % 8,
                                       .link_id = data[1] % 8};
        memcpy(ring_payload(record), data + RECORD_LEAD, length);
        ring_commit(ring, record);
        fuzz_bend(record, data[0], le32_read(data + 4));
        *is_sound = *is_sound && (data[0] & 3) == 0 && length > 0;
        n_packets++;
        data += RECORD_LEAD + length;
        size -= RECORD_LEAD + length;
    }
    ring_publish(ring, stats);
    return n_packets;
}

/* Runs a writer to the ring's end, where it finds the bell, through so many events at most. */
static inline void fuzz_run_writer(struct worker_thread *worker, int n_events_max) {
    char bell;
    FUZZ_CHECK(write(worker->channel[0], "!", 1) == 1);
    enum loop_end end = loop_run(worker->loop);
    for (int i = 0; end == LOOP_EVENT && i < n_events_max; i++)
        end = loop_run(worker->loop);
    FUZZ_CHECK(end == LOOP_DOORBELL);
    FUZZ_CHECK(read(worker->channel[1], &bell, 1) == 1);
}

#endif
