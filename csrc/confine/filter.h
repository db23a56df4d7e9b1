/* filter: the system calls of a role (calls.h) as a seccomp program. */
#ifndef FASTUN_CONFINE_FILTER_H
#define FASTUN_CONFINE_FILTER_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#include "fastun.h"
#include "shared/stats.h"

enum { FILTER_LENGTH_MAX = 256 }; /* instructions; jumps within one line are short */

/* Writes the program of `role` and returns its length. What the role may not do gets the seccomp
 * action `otherwise`; another processor's calls always kill. 0: there is none for this processor. */
size_t filter_make(struct sock_filter program[FILTER_LENGTH_MAX], enum stats_role role,
                   uint32_t otherwise);

/* How many different system calls the role may make. */
unsigned filter_n_calls(enum stats_role role);

/* Puts this process under the filter of `role`: breaking it leaves the call's number in `stats` and
 * ends the process by SIGSYS. Needs no_new_privs. */
int filter_install(enum stats_role role, struct stats_block *stats);

#endif
