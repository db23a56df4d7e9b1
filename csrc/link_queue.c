#define _GNU_SOURCE
#include "link_queue.h"

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

int link_queue_init(struct link_queue *queue) {
    /* mmap, not malloc: pages that are never touched cost nothing, and all go back at the end. */
    void *memory = mmap(NULL, LINK_QUEUE_ROOM, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *queue = (struct link_queue){.memory = memory};
    return 0;
}

static void move_to_front(struct link_queue *queue) {
    memmove(queue->memory, queue->memory + queue->start, queue->end - queue->start);
    queue->end -= queue->start;
    queue->start = 0;
}

bool link_queue_append(struct link_queue *queue, const struct queue_entry *entry,
                       const uint8_t *bytes) {
    size_t space = entry_space(entry->length);
    if (queue->end - queue->start + space > LINK_QUEUE_BYTES)
        return false;
    if (queue->end + space > LINK_QUEUE_ROOM)
        move_to_front(queue);
    *entry_at(queue, queue->end) = *entry;
    memcpy(queue->memory + queue->end + sizeof *entry, bytes, entry->length);
    queue->end += space;
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

bool link_queue_take(struct link_queue *queue, struct queue_entry *entry) {
    if (link_queue_is_empty(queue))
        return false;
    *entry = *entry_at(queue, queue->start);
    queue->start += entry_space(entry->length);
    queue->n_sent = 0;
    if (link_queue_is_empty(queue))
        queue->start = queue->end = 0;
    return true;
}

bool link_queue_settle(struct link_queue *queue, size_t n, struct queue_entry *entry) {
    queue->n_sent += n;
    if (link_queue_is_empty(queue) || queue->n_sent < entry_at(queue, queue->start)->length)
        return false;
    size_t rest = queue->n_sent - entry_at(queue, queue->start)->length;
    link_queue_take(queue, entry);
    queue->n_sent = rest;
    return true;
}

void link_queue_free(struct link_queue *queue) {
    if (queue->memory != NULL)
        munmap(queue->memory, LINK_QUEUE_ROOM);
    *queue = (struct link_queue){0};
}
