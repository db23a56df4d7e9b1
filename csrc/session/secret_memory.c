#define _GNU_SOURCE
#include "session/secret_memory.h"

#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Small pieces share mappings: a region has those of one size class, a multiple of STEP with the
 * header. What is larger is a region of its own. */
enum { STEP = 128, N_CLASSES = 24, REGION_BYTES = 16384, ALIGNMENT = 64 };

/* memfd_secret's memory, once it is asked for. Its pages go back to the kernel only with all of it, so
 * the place of a mapping is used again. */
enum { FILE_BYTES = 64 * 1024 * 1024, N_PLACES = FILE_BYTES / REGION_BYTES, NO_PLACE = -1 };

static struct {
    int fd;              /* -1: memory is any memory, locked */
    size_t place_bytes;  /* a region of pieces; only pieces are here */
    int n_begun, n_free; /* places; those behind n_begun were never used */
    int16_t free[N_PLACES];
} secret_file = {.fd = -1};

/* At the beginning of a mapping. One with room is in its class's list. */
struct region {
    _Alignas(ALIGNMENT) size_t mapped_bytes;
    size_t piece_bytes; /* with the header */
    struct region *next, *previous;
    struct header *free; /* pieces that were given back */
    size_t n_used;
    size_t n_made; /* those behind them were never given out */
    int place;     /* in secret_file, or NO_PLACE */
};

/* Stands in front of every piece; its size keeps the piece aligned. */
struct header {
    _Alignas(ALIGNMENT) struct region *region;
    struct header *next_free;
};

static struct region *with_room[N_CLASSES];
static atomic_flag is_locked = ATOMIC_FLAG_INIT;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&is_locked, memory_order_acquire))
        ;
}

static void unlock(void) {
    atomic_flag_clear_explicit(&is_locked, memory_order_release);
}

static struct header *header_of(void *memory) {
    return (struct header *)memory - 1;
}

static size_t size_of(const struct header *header) {
    return header->region->piece_bytes - sizeof *header;
}

/* -- regions ----------------------------------------------------------------------------------- */

static int protect(void *mapping, size_t mapped_bytes) {
    if (madvise(mapping, mapped_bytes, MADV_DONTDUMP) < 0 ||
        madvise(mapping, mapped_bytes, MADV_DONTFORK) < 0)
        return -errno;
    (void)mlock2(mapping, mapped_bytes, 0); /* as mlock, which sanitizers make do nothing */
    return 0;
}

/* MAP_FAILED: there is no such memory, no room left in it, or a limit on locked memory. */
static void *map_secret(size_t mapped_bytes, int *place) {
    if (secret_file.fd < 0 || mapped_bytes != secret_file.place_bytes)
        return MAP_FAILED;
    bool is_again = secret_file.n_free > 0;
    if (!is_again && (size_t)(secret_file.n_begun + 1) * mapped_bytes > FILE_BYTES)
        return MAP_FAILED;
    int at = is_again ? secret_file.free[secret_file.n_free - 1] : secret_file.n_begun;
    void *mapping = mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, secret_file.fd,
                         (off_t)((size_t)at * mapped_bytes));
    if (mapping == MAP_FAILED)
        return MAP_FAILED;
    secret_file.n_free -= is_again;
    secret_file.n_begun += !is_again;
    *place = at;
    return mapping;
}

static void unmap(struct region *region) {
    size_t mapped_bytes = region->mapped_bytes;
    if (region->place != NO_PLACE) {
        secret_file.free[secret_file.n_free++] = (int16_t)region->place;
        explicit_bzero(region, mapped_bytes); /* the next one there begins with zeros */
    }
    munmap(region, mapped_bytes);
}

static size_t whole_pages(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) & ~(page - 1);
}

static struct region *region_new(size_t piece_bytes) {
    size_t least = sizeof(struct region) + piece_bytes;
    size_t mapped_bytes = whole_pages(least < REGION_BYTES ? REGION_BYTES : least);
    int place = NO_PLACE;
    struct region *region = map_secret(mapped_bytes, &place);
    if (region == MAP_FAILED)
        region =
            mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        return NULL;
    int error = protect(region, mapped_bytes);
    region->mapped_bytes = mapped_bytes;
    region->place = place;
    if (error < 0) {
        unmap(region);
        errno = -error;
        return NULL;
    }
    region->piece_bytes = piece_bytes;
    return region;
}

/* The list of the region's class; NULL for a piece with a mapping of its own. */
static struct region **list_of(const struct region *region) {
    size_t class = region->piece_bytes / STEP;
    return class < N_CLASSES ? &with_room[class] : NULL;
}

static bool is_full(const struct region *region) {
    size_t n = (region->mapped_bytes - sizeof *region) / region->piece_bytes;
    return region->free == NULL && region->n_made == n;
}

static void list(struct region *region) {
    struct region **first = list_of(region);
    if (first == NULL)
        return;
    region->previous = NULL;
    region->next = *first;
    if (*first != NULL)
        (*first)->previous = region;
    *first = region;
}

static void unlist(struct region *region) {
    struct region **first = list_of(region);
    if (first == NULL)
        return;
    if (region->previous != NULL)
        region->previous->next = region->next;
    else
        *first = region->next;
    if (region->next != NULL)
        region->next->previous = region->previous;
}

/* The one that the next piece of its class comes from: it stays, or a piece that is made and given
 * back again and again would cost a mapping each time. */
static bool is_last_with_room(const struct region *region) {
    struct region **first = list_of(region);
    return first != NULL && *first == region && region->next == NULL;
}

static struct header *take(struct region *region) {
    struct header *header = region->free;
    if (header != NULL)
        region->free = header->next_free;
    else
        header =
            (struct header *)((uint8_t *)(region + 1) + region->n_made++ * region->piece_bytes);
    *header = (struct header){.region = region};
    region->n_used++;
    return header;
}

/* linux/unistd.h, where the libc's is older than the kernel; all processors have this number. */
enum { MEMFD_SECRET = 447 };

int secret_memory_hide(void) {
    if (secret_file.fd >= 0)
        return 0;
    int fd = secret_memory_open(FILE_BYTES);
    if (fd < 0)
        return fd;
    for (unsigned class = 0; class < N_CLASSES; class ++) {
        struct region *empty = with_room[class];
        if (empty == NULL || empty->n_used > 0)
            continue;
        unlist(empty); /* the one that stays is to be hidden, too */
        unmap(empty);
    }
    secret_file.fd = fd;
    secret_file.place_bytes = whole_pages(REGION_BYTES);
    return 0;
}

int secret_memory_open(size_t size_bytes) {
    int fd = (int)syscall(MEMFD_SECRET, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size_bytes) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* -- pieces ------------------------------------------------------------------------------------ */

static struct header *piece_new(size_t piece_bytes) {
    size_t class = piece_bytes / STEP;
    struct region *region = class < N_CLASSES ? with_room[class] : NULL;
    if (region == NULL) {
        region = region_new(piece_bytes);
        if (region == NULL)
            return NULL;
        list(region);
    }
    struct header *header = take(region);
    if (is_full(region))
        unlist(region);
    return header;
}

void *secret_memory_new(size_t size_bytes) {
    if (size_bytes > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    size_t piece_bytes = (sizeof(struct header) + size_bytes + STEP - 1) & ~(size_t)(STEP - 1);
    lock();
    struct header *header = piece_new(piece_bytes);
    unlock();
    return header == NULL ? NULL : header + 1;
}

void *secret_memory_resize(void *memory, size_t size_bytes) {
    void *resized = secret_memory_new(size_bytes);
    if (resized == NULL || memory == NULL)
        return resized;
    size_t kept = size_of(header_of(memory));
    memcpy(resized, memory, kept < size_bytes ? kept : size_bytes);
    secret_memory_free(memory);
    return resized;
}

void secret_memory_free(void *memory) {
    if (memory == NULL)
        return;
    struct header *header = header_of(memory);
    struct region *region = header->region;
    explicit_bzero(memory, size_of(header));
    lock();
    bool was_full = is_full(region);
    header->next_free = region->free;
    region->free = header;
    region->n_used--;
    if (was_full)
        list(region);
    if (region->n_used == 0 && !is_last_with_room(region)) {
        unlist(region);
        unmap(region);
    }
    unlock();
}
