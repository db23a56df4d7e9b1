/* template_filter: system calls that neither the template nor a worker before its own filter needs. */
#ifndef FASTUN_CONFINE_TEMPLATE_H
#define FASTUN_CONFINE_TEMPLATE_H

/* Refuses them to this process, which has one thread, and to those that it forks, with EPERM. Needs
 * no_new_privs. Returns 0 or -errno. */
int template_filter_install(void);

#endif
