#define _GNU_SOURCE
#include "session/secret_memory.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Stands in front of every piece; its size keeps the piece aligned. */
struct header {
    _Alignas(64) size_t mapped_bytes;
};

static struct header *header_of(void *memory) {
    return (struct header *)memory - 1;
}

static size_t size_of(const struct header *header) {
    return header->mapped_bytes - sizeof *header;
}

static int protect(void *mapping, size_t mapped_bytes) {
    if (madvise(mapping, mapped_bytes, MADV_DONTDUMP) < 0 ||
        madvise(mapping, mapped_bytes, MADV_DONTFORK) < 0)
        return -errno;
    (void)mlock2(mapping, mapped_bytes, 0); /* as mlock, which sanitizers make do nothing */
    return 0;
}

void *secret_memory_new(size_t size_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size_bytes > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    size_t mapped_bytes = (sizeof(struct header) + size_bytes + page - 1) & ~(page - 1);
    struct header *header =
        mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (header == MAP_FAILED)
        return NULL;
    int error = protect(header, mapped_bytes);
    if (error < 0) {
        munmap(header, mapped_bytes);
        errno = -error;
        return NULL;
    }
    header->mapped_bytes = mapped_bytes;
    return header + 1;
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
    /* The kernel clears the pages before another process sees them, but only then. */
    explicit_bzero(memory, size_of(header));
    munmap(header, header->mapped_bytes);
}
