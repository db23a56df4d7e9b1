#define _GNU_SOURCE
#include "shared/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE_SEALS = F_SEAL_SHRINK | F_SEAL_GROW };

int shared_memory_open(const char *name, size_t size_bytes) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size_bytes) < 0 || fcntl(fd, F_ADD_SEALS, SIZE_SEALS) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int shared_memory_check(int fd, size_t size_bytes) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &st) < 0)
        return -errno;
    if ((seals & SIZE_SEALS) != SIZE_SEALS || (size_t)st.st_size != size_bytes)
        return -EINVAL;
    return 0;
}

static void *map(int fd, size_t size_bytes, int protection) {
    void *memory = mmap(NULL, size_bytes, protection, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void *shared_memory_create(const char *name, size_t size_bytes, int *fd) {
    *fd = shared_memory_open(name, size_bytes);
    if (*fd < 0) {
        errno = -*fd;
        return NULL;
    }
    void *memory = map(*fd, size_bytes, PROT_READ | PROT_WRITE);
    if (memory == NULL) {
        int error = errno;
        close(*fd);
        errno = error;
    }
    return memory;
}

void *shared_memory_attach(int fd, size_t size_bytes) {
    int error = shared_memory_check(fd, size_bytes);
    if (error < 0) {
        errno = -error;
        return NULL;
    }
    return map(fd, size_bytes, PROT_READ | PROT_WRITE);
}

void *shared_memory_attach_parts(int fd, size_t size_bytes, const struct shared_part *parts,
                                 unsigned n_parts, unsigned roles) {
    int error = shared_memory_check(fd, size_bytes);
    char *memory = error < 0 ? NULL : map(fd, size_bytes, PROT_READ);
    if (memory == NULL) {
        errno = error < 0 ? -error : errno;
        return NULL;
    }
    for (unsigned i = 0; i < n_parts; i++) {
        if ((roles & 1u << parts[i].role) == 0)
            continue;
        if (mprotect(memory + parts[i].offset, parts[i].length, PROT_READ | PROT_WRITE) == 0)
            continue;
        error = errno;
        munmap(memory, size_bytes);
        errno = error;
        return NULL;
    }
    return memory;
}
