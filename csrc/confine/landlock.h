/* landlock: no path can be opened, changed or executed any more. */
#ifndef FASTUN_CONFINE_LANDLOCK_H
#define FASTUN_CONFINE_LANDLOCK_H

#include <stddef.h>
#include <stdint.h>

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

struct landlock_files {
    const char *const *readable; /* files, and directories with all below them */
    size_t n_readable;
    const char *const *writable; /* files */
    size_t n_writable;
};

/* Makes the rules of a process that may open these files and no other, those of them that there are,
 * make or remove none, and connect by TCP to these ports alone (version 4). Returns as the one above. */
int landlock_named(const struct landlock_files *files, const uint16_t *ports, size_t n_ports,
                   int *fd);

/* Puts the calling thread under these rules, for good. Needs no_new_privs. Returns 0 or -errno. */
int landlock_enter(int fd);

#endif
