#define _GNU_SOURCE
#include "shared/stats.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "confine.h"
#include "shared/shared_memory.h"

static const char *const role_names[] = {
#define X(role, name) name,
    STATS_ROLES(X)
#undef X
};

static const char *const counter_names[] = {
#define X(counter) #counter,
    STATS_COUNTERS(X)
#undef X
};

static const char *const call_names[] = {
#define X(call) #call,
    STATS_CALLS(X)
#undef X
};

static const struct {
    enum stats_role role;
    const char *reason;
    const char *help;
} drops[] = {
#define X(role, reason, help) {ROLE_##role, #reason, help},
    STATS_DROPS(X)
#undef X
};

/* The bucket of `value` where bucket i ends at 2^i: ceil(log2(value)). */
static unsigned bucket_of(uint64_t value, unsigned n_buckets) {
    unsigned bucket = value <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(value - 1);
    return bucket < n_buckets ? bucket : n_buckets - 1;
}

void stats_batch(struct stats_block *stats, uint64_t n_frames) {
    stats_add(&stats->batch_frames[bucket_of(n_frames, N_BATCH_BUCKETS)], 1);
    stats_add(&stats->batch_frames_sum, n_frames);
}

void stats_queue_delay(struct stats_block *stats, uint64_t delay_ns) {
    stats_add(&stats->queue_delay[bucket_of((delay_ns + 999) / 1000, N_DELAY_BUCKETS)], 1);
    stats_add(&stats->queue_delay_sum_ns, delay_ns);
}

struct stats *stats_create(int *fd) {
    return shared_memory_create("fastun-stats", sizeof(struct stats), fd);
}

struct stats *stats_attach(int fd, unsigned writers) {
    struct shared_part parts[N_ROLES];
    for (unsigned role = 0; role < N_ROLES; role++)
        parts[role] = (struct shared_part)PART_OF(struct stats, parts[role], role);
    return shared_memory_attach_parts(fd, sizeof(struct stats), parts, N_ROLES, writers);
}

void stats_detach(struct stats *stats) {
    munmap(stats, sizeof *stats);
}

static uint64_t load(const _Atomic uint64_t *counter) {
    return __atomic_load_n((const uint64_t *)counter, __ATOMIC_RELAXED);
}

uint64_t stats_read_counter(struct stats *stats, unsigned role, unsigned counter) {
    return load(&stats->parts[role].block.counters[counter]);
}

uint64_t stats_read_drop(struct stats *stats, unsigned drop) {
    return load(&stats->parts[drops[drop].role].block.drops[drop]);
}

uint64_t stats_read_call(struct stats *stats, unsigned role, unsigned call) {
    return load(&stats->parts[role].block.calls[call]);
}

uint64_t stats_read_batch_frames(struct stats *stats, unsigned role, unsigned bucket) {
    return load(&stats->parts[role].block.batch_frames[bucket]);
}

uint64_t stats_read_batch_frames_sum(struct stats *stats, unsigned role) {
    return load(&stats->parts[role].block.batch_frames_sum);
}

uint64_t stats_read_queue_delay(struct stats *stats, unsigned role, unsigned bucket) {
    return load(&stats->parts[role].block.queue_delay[bucket]);
}

uint64_t stats_read_queue_delay_sum_ns(struct stats *stats, unsigned role) {
    return load(&stats->parts[role].block.queue_delay_sum_ns);
}

int64_t stats_take_forbidden_call(struct stats *stats, unsigned role) {
    uint64_t call = atomic_exchange(&stats->parts[role].block.forbidden_call, 0);
    return (int64_t)(call & UINT32_MAX) - 1;
}

const char *stats_role_name(unsigned role) {
    return role_names[role];
}

const char *stats_counter_name(unsigned counter) {
    return counter_names[counter];
}

const char *stats_call_name(unsigned call) {
    return call_names[call];
}

unsigned stats_drop_role(unsigned drop) {
    return drops[drop].role;
}

const char *stats_drop_reason(unsigned drop) {
    return drops[drop].reason;
}

const char *stats_drop_help(unsigned drop) {
    return drops[drop].help;
}

unsigned stats_n_roles(void) {
    return N_ROLES;
}

unsigned stats_n_counters(void) {
    return N_COUNTERS;
}

unsigned stats_n_calls(void) {
    return N_CALLS;
}

unsigned stats_n_drops(void) {
    return N_DROPS;
}

unsigned stats_n_batch_buckets(void) {
    return N_BATCH_BUCKETS;
}

unsigned stats_n_delay_buckets(void) {
    return N_DELAY_BUCKETS;
}
