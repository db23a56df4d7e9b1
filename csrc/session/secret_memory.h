/* secret_memory: where keys live, and what a library derives from them.
 *
 * After secret_memory_hide() (keys.h) new pieces are in memory of memfd_secret, which not even the
 * kernel maps, as long as there is room and RLIMIT_MEMLOCK allows. Otherwise:
 *
 * It is locked against swapping as far as RLIMIT_MEMLOCK allows (the kernel's answer is not an
 * error: a key on an encrypted or absent swap is no worse than no tunnel), never in a core dump,
 * never copied to a forked child, and wiped when it is given back. Small pieces of about the same
 * size share mappings of 16 KiB, of which one stays and the others go back to the kernel with the
 * last piece in them. For long-lived contexts and handshakes, not for messages. Any thread.
 */
#ifndef FASTUN_SESSION_SECRET_MEMORY_H
#define FASTUN_SESSION_SECRET_MEMORY_H

#include <stddef.h>

/* Zeroed, aligned to 64 bytes. NULL with errno set on failure. */
void *secret_memory_new(size_t size_bytes);
/* Moves the content to a piece of another size; the old one is wiped and gone. NULL with errno set
 * on failure, and `memory` is then as it was. */
void *secret_memory_resize(void *memory, size_t size_bytes);
/* Wipes. NULL is allowed. */
void secret_memory_free(void *memory);

/* A descriptor of so many zeros in memory that only a mapping of it can read (memfd_secret, Linux 5.14);
 * -errno. */
int secret_memory_open(size_t size_bytes);

#endif
