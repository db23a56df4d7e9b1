/* fleet_filter: system calls that the process of a fleet has no use for, and an attacker has. */
#ifndef FASTUN_CONFINE_FLEET_H
#define FASTUN_CONFINE_FLEET_H

/* Refuses them to this process, which has one thread, with EPERM, for good. Local sockets are those of
 * AF_UNIX. Needs no_new_privs. Returns 0 or -errno. */
int fleet_filter_install(int has_local_sockets);

#endif
