/* landlock: no path can be opened, changed or executed any more. */
#ifndef FASTUN_CONFINE_LANDLOCK_H
#define FASTUN_CONFINE_LANDLOCK_H

/* The version of Landlock's interface that this kernel has, or -errno. */
int landlock_version(void);

/* Forbids this process all that the kernel's Landlock knows of, for good: files, binding and
 * connecting (version 4), abstract sockets and signals to others (6). Needs no_new_privs. Returns the
 * version or -errno. */
int landlock_forbid_all(void);

#endif
