#define _GNU_SOURCE
#include "shared/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "confine.h"
#include "shared/shared_memory.h"
#include "shared/token.h"

enum { RING_MAGIC = 0x66724e31 };

/* A sleeping producer is woken when this part of the ring is free, not at every release: waking it
 * for one record at a time costs a system call and a process switch each. */
enum { PRODUCER_WAKE_DIVISOR = 4 };

/* -- life -------------------------------------------------------------------------------------- */

static bool is_valid_size(size_t size) {
    return size >= RING_SIZE_MIN && size <= RING_SIZE_MAX && (size & (size - 1)) == 0;
}

/* Header, data, data again: one reserved stretch of addresses, filled with two mappings. */
static uint8_t *map_twice(int fd, size_t size) {
    size_t once = RING_DATA_OFFSET + size;
    uint8_t *base = mmap(NULL, once + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
    if (mmap(base, once, protection, flags, fd, 0) != MAP_FAILED &&
        mmap(base + once, size, protection, flags, fd, RING_DATA_OFFSET) != MAP_FAILED)
        return base;
    int error = errno;
    munmap(base, once + size);
    errno = error;
    return NULL;
}

static uint64_t published_before(const struct ring_shared *shared, uint64_t index) {
    for (int i = 0; i < 2; i++)
        if (atomic_load(&shared->published[i].index) == index)
            return atomic_load(&shared->published[i].n_packets);
    return 0;
}

static struct ring *ring_map(int fd, size_t size) {
    uint8_t *base = map_twice(fd, size);
    struct ring *ring = base == NULL ? NULL : calloc(1, sizeof *ring);
    if (ring == NULL) {
        if (base != NULL)
            munmap(base, RING_DATA_OFFSET + 2 * size);
        return NULL;
    }
    ring->shared = (struct ring_shared *)(void *)base;
    ring->data = base + RING_DATA_OFFSET;
    ring->size = size;
    /* tail first: it may move on meanwhile, and must not be seen ahead of head */
    ring->tail = atomic_load(&ring->shared->tail);
    ring->head = atomic_load(&ring->shared->head);
    ring->n_packets = published_before(ring->shared, ring->head);
    ring->wake_fd = -1;
    ring->peer = ring->tail; /* true for a producer; makes a consumer look at head first */
    return ring;
}

struct ring *ring_create(size_t size_bytes, int *fd) {
    if (!is_valid_size(size_bytes)) {
        errno = EINVAL;
        return NULL;
    }
    *fd = shared_memory_open("fastun-ring", RING_DATA_OFFSET + size_bytes);
    if (*fd < 0) {
        errno = -*fd;
        return NULL;
    }
    struct ring *ring = ring_map(*fd, size_bytes);
    if (ring == NULL) {
        close(*fd);
        return NULL;
    }
    ring->shared->size_bytes = (uint32_t)size_bytes;
    ring->shared->magic = RING_MAGIC;
    return ring;
}

struct ring *ring_attach(int fd, size_t size_bytes) {
    int error = shared_memory_check(fd, RING_DATA_OFFSET + size_bytes);
    if (error == 0)
        return ring_attach_own(fd, size_bytes);
    errno = -error;
    return NULL;
}

struct ring *ring_attach_own(int fd, size_t size_bytes) {
    if (!is_valid_size(size_bytes)) {
        errno = EINVAL;
        return NULL;
    }
    struct ring *ring = ring_map(fd, size_bytes);
    if (ring == NULL)
        return NULL;
    if (ring->shared->magic != RING_MAGIC || ring->shared->size_bytes != size_bytes ||
        ring->head - ring->tail > size_bytes ||
        (ring->head | ring->tail) % RING_RECORD_ALIGN != 0) {
        ring_detach(ring);
        errno = EINVAL;
        return NULL;
    }
    /* A predecessor killed in its sleep left the mark set; it is this process's to clear. The
     * neighbour takes a stale mark for a sleeper; its wake-up is then needless, and harmless. */
    return ring;
}

void ring_detach(struct ring *ring) {
    munmap(ring->shared, RING_DATA_OFFSET + 2 * ring->size);
    free(ring);
}

/* -- producer ---------------------------------------------------------------------------------- */

static uint64_t free_bytes(struct ring *ring) {
    return ring->size - (ring->head - ring->peer);
}

static uint8_t *place(const struct ring *ring, uint64_t index) {
    return ring->data + (index & (ring->size - 1));
}

struct ring_record *ring_reserve(struct ring *ring, size_t space) {
    if (free_bytes(ring) < space) {
        /* acquire: the consumer's last reads of the freed bytes happen before our writes
         * (partner: the release in ring_release) */
        ring->peer = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
        if (free_bytes(ring) < space)
            return NULL;
    }
    return (struct ring_record *)(void *)place(ring, ring->head);
}

void ring_commit(struct ring *ring, struct ring_record *record) {
    uint32_t used = record->offset + record->length;
    record->space = (used + RING_RECORD_ALIGN - 1) & ~(uint32_t)(RING_RECORD_ALIGN - 1);
    record->n_before = ring->n_packets;
    ring->n_packets += record->n_packets;
    ring->head += record->space;
}

/* Into the entry that is not head's. */
static void write_ledger(const struct ring *ring) {
    struct ring_shared *shared = ring->shared;
    uint64_t head = atomic_load_explicit(&shared->head, memory_order_relaxed);
    int i = atomic_load_explicit(&shared->published[0].index, memory_order_relaxed) == head;
    atomic_store_explicit(&shared->published[i].n_packets, ring->n_packets, memory_order_relaxed);
    atomic_store_explicit(&shared->published[i].index, ring->head, memory_order_release);
}

static void move_head(struct ring *ring) {
    write_ledger(ring);
    /* release: the records' bytes are visible before the index (partner: ring_peek) */
    atomic_store_explicit(&ring->shared->head, ring->head, memory_order_release);
}

void ring_publish(struct ring *ring, struct stats_block *stats) {
    move_head(ring);
    waiter_wake(&ring->shared->consumer, ring->wake_fd, stats);
}

bool ring_publish_and_take(struct ring *ring, size_t n_bytes_max, struct ring *as_consumer,
                           struct stats_block *stats) {
    struct ring_shared *shared = ring->shared;
    uint64_t before = atomic_load_explicit(&shared->head, memory_order_relaxed);
    move_head(ring);
    if (ring->head - before > n_bytes_max || !token_take(&shared->consumer)) {
        waiter_wake(&shared->consumer, ring->wake_fd, stats);
        return false;
    }
    as_consumer->shared = shared;
    as_consumer->data = ring->data;
    as_consumer->size = ring->size;
    as_consumer->tail = atomic_load_explicit(&shared->tail, memory_order_relaxed);
    as_consumer->peer = as_consumer->tail;
    return true;
}

void ring_give_back(struct ring *ring, struct ring *as_consumer, struct stats_block *stats) {
    bool has_rest = as_consumer->tail != ring->head;
    token_give_back(&ring->shared->consumer, has_rest, ring->wake_fd, stats);
}

enum wait_end ring_wait_space(struct ring *ring, size_t space, int channel_fd,
                              struct stats_block *stats) {
    return ring_wait_space_for(ring, space, WAIT_HEARTBEAT_NS, channel_fd, stats);
}

enum wait_end ring_wait_space_for(struct ring *ring, size_t space, uint64_t most_ns, int channel_fd,
                                  struct stats_block *stats) {
    struct waiter *self = &ring->shared->producer;
    uint64_t wanted = ring->size / PRODUCER_WAKE_DIVISOR;
    if (wanted < space)
        wanted = space;
    atomic_store_explicit(&self->wanted, (uint32_t)wanted, memory_order_relaxed);
    uint32_t event = waiter_prepare(self, WAITER_ON_FUTEX);
    ring->peer = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    if (free_bytes(ring) >= wanted) {
        waiter_cancel(self);
        return WAIT_READY;
    }
    return waiter_sleep_for(self, event, most_ns, channel_fd, stats);
}

/* -- consumer ---------------------------------------------------------------------------------- */

static bool is_sound(const struct ring *ring, const struct ring_record *record, uint64_t filled) {
    return record->space >= sizeof *record && record->space % RING_RECORD_ALIGN == 0 &&
           record->space <= filled && filled <= ring->size && record->offset >= sizeof *record &&
           record->offset <= record->space && record->length > 0 &&
           record->length <= record->space - record->offset;
}

/* A copy of the header. Volatile, so that the compiler does not read a field again later, when the
 * producer may have changed it; field by field as it was written, which is faster than by
 * vectors. */
static struct ring_record read_header(const volatile struct ring_record *at) {
    return (struct ring_record){
        .space = at->space,
        .offset = at->offset,
        .length = at->length,
        .n_packets = at->n_packets,
        .n_bytes = at->n_bytes,
        .slot = at->slot,
        .link_id = at->link_id,
        .segment = at->segment,
        .ecn = at->ecn,
        .flow = at->flow,
        .enqueued_ns = at->enqueued_ns,
    };
}

static const struct ring_view *make_view(struct ring *ring, const struct ring_record *record,
                                         uint8_t *at, uint64_t end) {
    struct ring_view *view = &ring->views[ring->next_view++ % RING_VIEWS_MAX];
    *view = (struct ring_view){
        .payload = at + record->offset,
        .length = record->length,
        .n_packets = record->n_packets,
        .n_bytes = record->n_bytes,
        .slot = record->slot,
        .link_id = record->link_id,
        .segment = record->segment,
        .ecn = record->ecn,
        .flow = record->flow,
        .enqueued_ns = record->enqueued_ns,
        .end = end,
    };
    return view;
}

const struct ring_view *ring_peek(struct ring *ring, uint64_t *cursor, bool *corrupt) {
    if (ring->peer == *cursor) {
        /* acquire: pairs with the release in ring_publish */
        ring->peer = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
        if (ring->peer == *cursor)
            return NULL;
    }
    uint8_t *at = place(ring, *cursor);
    struct ring_record record = {0}; /* fails the check */
    if (*cursor % RING_RECORD_ALIGN == 0)
        record = read_header((const void *)at);
    if (!is_sound(ring, &record, ring->peer - *cursor)) {
        *corrupt = true;
        return NULL;
    }
    *cursor += record.space;
    return make_view(ring, &record, at, *cursor);
}

void ring_release(struct ring *ring, uint64_t cursor, struct stats_block *stats) {
    struct waiter *producer = &ring->shared->producer;
    ring->tail = cursor;
    ring->next_view = 0; /* reuse the first few, which are in the cache */
    /* release: our reads of the records are done before they may be overwritten
     * (partner: ring_reserve) */
    atomic_store_explicit(&ring->shared->tail, cursor, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in waiter_prepare */
    if (atomic_load_explicit(&producer->asleep, memory_order_relaxed) == 0)
        return;
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
    uint64_t free_now = ring->size - (head - cursor);
    if (free_now >= atomic_load_explicit(&producer->wanted, memory_order_relaxed))
        waiter_wake(producer, -1, stats); /* a producer sleeps on its futex only */
}

/* The word is the neighbour's as well: what lies in the ring is looked at as ever (ring_peek). */
void ring_leave_begun(struct ring *ring, struct stats_block *stats) {
    uint64_t begun = atomic_load(&ring->shared->begun);
    uint64_t filled = atomic_load_explicit(&ring->shared->head, memory_order_acquire) - ring->tail;
    if (begun % RING_RECORD_ALIGN != 0 || begun - ring->tail > filled || filled > ring->size)
        return;
    ring->peer = begun;
    ring_release(ring, begun, stats);
}

uint64_t ring_released_packets(const struct ring *ring) {
    for (;;) {
        uint64_t head = atomic_load(&ring->shared->head);
        if (head != ring->tail)
            return ((const struct ring_record *)(const void *)place(ring, ring->tail))->n_before;
        uint64_t n_packets = published_before(ring->shared, head);
        if (atomic_load(&ring->shared->head) == head) /* the producer leaves head's entry alone */
            return n_packets;
    }
}

void ring_discard(struct ring *ring, struct stats_block *stats) {
    ring->peer = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
    ring_release(ring, ring->peer, stats);
}

/* -- the gateway's view ------------------------------------------------------------------------ */

uint64_t ring_used_bytes(struct ring *ring) {
    uint64_t tail = atomic_load(&ring->shared->tail);
    uint64_t used = atomic_load(&ring->shared->head) - tail;
    return used <= ring->size ? used : ring->size;
}

void ring_doorbell_producer(struct ring *ring) {
    waiter_ring(&ring->shared->producer);
}

void ring_doorbell_consumer(struct ring *ring) {
    waiter_ring(&ring->shared->consumer);
}

int ring_producer_is_dead(struct ring *ring) {
    return token_orphan(&ring->shared->consumer);
}
