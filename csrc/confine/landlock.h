/* landlock: no path can be opened, changed or executed any more. */
#ifndef FASTUN_CONFINE_LANDLOCK_H
#define FASTUN_CONFINE_LANDLOCK_H

#include <stddef.h>

/* The version of Landlock's interface that this kernel has, or -errno. */
int landlock_version(void);

/* Forbids this process all that the kernel's Landlock knows of, for good: files, binding and
 * connecting (version 4), abstract sockets and signals to others (6). Needs no_new_privs. Returns the
 * version or -errno. */
int landlock_forbid_all(void);

/* Makes the rules of a process that may read what is below these directories, those of them that
 * there are, and connect, and nothing else: it opens no other file, writes and executes none, and
 * listens on no TCP port of its own. Returns the version or -errno; `fd`, -1 then, is the caller's. */
int landlock_readable(const char *const *directories, size_t n, int *fd);

/* Puts the calling thread under these rules, for good. Needs no_new_privs. Returns 0 or -errno. */
int landlock_enter(int fd);

#endif
