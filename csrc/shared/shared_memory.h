/* shared_memory: a memfd mapped into this process.
 *
 * The memory is sealed against growing and shrinking, so a mapping can never be cut short under a
 * process that reads it (SIGBUS).
 */
#ifndef FASTUN_SHARED_SHARED_MEMORY_H
#define FASTUN_SHARED_SHARED_MEMORY_H

#include <stddef.h>

/* A new sealed memfd of `size_bytes` zeros; -errno on failure. */
int shared_memory_open(const char *name, size_t size_bytes);
/* 0 when the memfd is exactly `size_bytes` long and sealed, else -errno. */
int shared_memory_check(int fd, size_t size_bytes);

/* Create or check, then map. NULL with errno set on failure; the caller owns *fd. */
void *shared_memory_create(const char *name, size_t size_bytes, int *fd);
void *shared_memory_attach(int fd, size_t size_bytes);

/* What one role writes is a multiple of this: of the largest pages that any kernel has here. */
enum { PART_BYTES = 65536 };

struct shared_part {
    size_t offset, length;
    unsigned role;
};

#define PART_OF(type, member, role)                                                                \
    { offsetof(type, member), sizeof(((type *)NULL)->member), role }

/* As shared_memory_attach, but only the parts of these roles, a bit each, can be written; to write
 * elsewhere is SIGSEGV. Nothing makes them writable later but a descriptor. */
void *shared_memory_attach_parts(int fd, size_t size_bytes, const struct shared_part *parts,
                                 unsigned n_parts, unsigned roles);

#endif
