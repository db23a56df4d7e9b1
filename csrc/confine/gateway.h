/* gateway_filter: system calls that the gateway has no use for, and an attacker has. */
#ifndef FASTUN_CONFINE_GATEWAY_H
#define FASTUN_CONFINE_GATEWAY_H

/* Refuses them to all threads of this process, with EPERM, for good. Needs no_new_privs. Returns 0
 * or -errno. */
int gateway_filter_install(void);

#endif
