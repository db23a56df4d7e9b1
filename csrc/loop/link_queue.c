#define _GNU_SOURCE
#include "loop/link_queue.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Entries begin at multiples of 16, where their header is aligned. */
static size_t entry_space(size_t length) {
    return (sizeof(struct queue_entry) + length + 15) & ~(size_t)15;
}

static struct queue_entry *entry_at(const struct link_queue *queue, size_t place) {
    return (struct queue_entry *)(void *)(queue->memory + place);
}

/* -- memory ------------------------------------------------------------------------------------ */

enum { PAGE = 4096 }; /* with larger pages each queue may use up to one more than is counted */

static size_t beyond_share(size_t n_paged) {
    return n_paged > LINK_QUEUE_SHARE ? n_paged - LINK_QUEUE_SHARE : 0;
}

size_t link_queue_pooled(const struct link_queue *queue) {
    return beyond_share(queue->n_paged);
}

static size_t whole_pages(size_t n_bytes) {
    return (n_bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* Accounts for pages for `n_bytes`, if the pool allows it. */
static bool grow(struct link_queue *queue, size_t n_bytes) {
    size_t n_paged = whole_pages(n_bytes);
    if (n_paged <= queue->n_paged)
        return true;
    size_t n_more = beyond_share(n_paged) - beyond_share(queue->n_paged);
    if (n_paged > LINK_QUEUE_ROOM || n_more > queue->pool->max - queue->pool->n_used)
        return false;
    queue->pool->n_queues += n_more > 0 && beyond_share(queue->n_paged) == 0;
    queue->pool->n_used += n_more;
    queue->n_paged = n_paged;
    return true;
}

static void shrink(struct link_queue *queue) {
    size_t n_pooled = beyond_share(queue->n_paged);
    if (n_pooled == 0)
        return;
    madvise(queue->memory + LINK_QUEUE_SHARE, n_pooled, MADV_DONTNEED);
    queue->pool->n_queues--;
    queue->pool->n_used -= n_pooled;
    queue->n_paged = LINK_QUEUE_SHARE;
}

bool link_queue_is_owed(const struct link_queue *queue, size_t entry_length) {
    size_t n_bytes = queue->end - queue->start + entry_space(entry_length);
    size_t n_queues = queue->pool->n_queues + (beyond_share(queue->n_paged) == 0);
    return n_bytes <= LINK_QUEUE_BYTES &&
           beyond_share(whole_pages(n_bytes)) <= queue->pool->max / n_queues;
}

void link_queue_rest(struct link_queue *queue, uint64_t now_ns) {
    if (!link_queue_is_empty(queue) || beyond_share(queue->n_paged) == 0 ||
        now_ns < queue->returned_ns + LINK_QUEUE_RETURN_MS * 1000000ull)
        return;
    queue->returned_ns = now_ns;
    shrink(queue);
}

/* -- entries ----------------------------------------------------------------------------------- */

int link_queue_init(struct link_queue *queue, struct queue_pool *pool) {
    /* mmap, not malloc: pages that are never touched cost nothing, and all go back at the end. */
    void *memory = mmap(NULL, LINK_QUEUE_ROOM, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *queue = (struct link_queue){.memory = memory, .pool = pool};
    return 0;
}

static void move_to_front(struct link_queue *queue) {
    memmove(queue->memory, queue->memory + queue->start, queue->end - queue->start);
    queue->inserted_end -= queue->inserted_end > queue->start ? queue->start : queue->inserted_end;
    queue->end -= queue->start;
    queue->start = 0;
}

bool link_queue_append(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes) {
    size_t space = entry_space(entry->length), held = queue->end - queue->start;
    if (held + space > LINK_QUEUE_BYTES)
        return false;
    if (!grow(queue, queue->end + space)) {
        /* Only what fits before its own start moves, so no byte moves twice; LINK_QUEUE_ROOM is
         * large enough for that. */
        if (queue->start < held || !grow(queue, held + space))
            return false;
        move_to_front(queue);
    }
    *entry_at(queue, queue->end) = *entry;
    memcpy(queue->memory + queue->end + sizeof *entry, bytes, entry->length);
    queue->end += space;
    return true;
}

bool link_queue_insert(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes) {
    size_t space = entry_space(entry->length);
    size_t held = queue->end - queue->start;
    if (held == 0 || queue->start < space || held + space > LINK_QUEUE_BYTES)
        return false;
    size_t place = queue->start + entry_space(entry_at(queue, queue->start)->length);
    if (place < queue->inserted_end)
        place = queue->inserted_end;
    memmove(queue->memory + queue->start - space, queue->memory + queue->start,
            place - queue->start);
    queue->start -= space;
    *entry_at(queue, place - space) = *entry;
    memcpy(queue->memory + place - space + sizeof *entry, bytes, entry->length);
    queue->inserted_end = place;
    return true;
}

int link_queue_gather(struct link_queue *queue, struct iovec *iov, int n_max) {
    size_t place = queue->start, skip = queue->n_sent;
    int n = 0;
    for (; n < n_max && place < queue->end; n++) {
        const struct queue_entry *entry = entry_at(queue, place);
        uint8_t *bytes = queue->memory + place + sizeof *entry;
        iov[n] = (struct iovec){bytes + skip, entry->length - skip};
        place += entry_space(entry->length);
        skip = 0;
    }
    return n;
}

const uint8_t *link_queue_first(const struct link_queue *queue, struct queue_entry *entry) {
    *entry = *entry_at(queue, queue->start);
    return queue->memory + queue->start + sizeof *entry;
}

const uint8_t *link_queue_peek(const struct link_queue *queue, size_t *place,
                               struct queue_entry *entry) {
    if (*place >= queue->end)
        return NULL;
    const uint8_t *bytes = queue->memory + *place + sizeof *entry;
    *entry = *entry_at(queue, *place);
    *place += entry_space(entry->length);
    return bytes;
}

bool link_queue_pop(struct link_queue *queue, struct queue_entry *entry) {
    if (link_queue_is_empty(queue))
        return false;
    *entry = *entry_at(queue, queue->start);
    queue->start += entry_space(entry->length);
    queue->n_sent = 0;
    if (link_queue_is_empty(queue))
        queue->start = queue->end = queue->inserted_end = 0;
    return true;
}

bool link_queue_consume(struct link_queue *queue, size_t n, struct queue_entry *entry) {
    queue->n_sent += n;
    if (link_queue_is_empty(queue) || queue->n_sent < entry_at(queue, queue->start)->length)
        return false;
    size_t rest = queue->n_sent - entry_at(queue, queue->start)->length;
    link_queue_pop(queue, entry);
    queue->n_sent = rest;
    return true;
}

uint64_t link_queue_cut(struct link_queue *queue) {
    size_t place = queue->start;
    uint64_t n_packets = 0;
    bool is_empty = link_queue_is_empty(queue);
    if (!is_empty && (queue->n_sent > 0 || entry_at(queue, place)->is_rest))
        place += entry_space(
            entry_at(queue, place)->length); /* else the stream would lose its framing */
    size_t kept_end = place;
    for (; place < queue->end; place += entry_space(entry_at(queue, place)->length))
        n_packets += entry_at(queue, place)->n_packets;
    queue->end = kept_end;
    queue->inserted_end = 0;
    move_to_front(queue);
    shrink(queue);
    return n_packets;
}

void link_queue_free(struct link_queue *queue) {
    if (queue->memory != NULL) {
        shrink(queue);
        munmap(queue->memory, LINK_QUEUE_ROOM);
    }
    *queue = (struct link_queue){0};
}
