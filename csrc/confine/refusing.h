/* refusing: a seccomp program that allows all calls but some, for processes that run Python.
 *
 * A list of what is refused, and not of what is allowed, as workers have: Python, its libraries and
 * libc's name service make some hundred calls, others with each version. */
#ifndef FASTUN_CONFINE_REFUSING_H
#define FASTUN_CONFINE_REFUSING_H

#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "confine/bpf.h"

#define REFUSE_CALL   (SECCOMP_RET_ERRNO | EPERM)
#define REFUSE_FAMILY (SECCOMP_RET_ERRNO | EAFNOSUPPORT)

/* Kills at another processor's calls, and refuses what executes, looks into other processes, changes
 * namespaces or mounts, or reaches parts of the kernel that have often been broken. Whether there is a
 * filter for this processor: else nothing is written. */
int refusing_begin(struct writer *to);

/* If the call is this one, the next `n` instructions, else those behind them. */
void refusing_if_call(struct writer *to, uint32_t call, uint8_t n);

/* Its lower half. */
void refusing_load_argument(struct writer *to, unsigned i);

void refusing_calls(struct writer *to, const uint32_t *calls, size_t n);

/* Refuses a call whose first argument is another process than this one, by its number or 0. */
void refusing_but_oneself(struct writer *to, uint32_t call);

/* Allows what is left, and installs it: with SECCOMP_FILTER_FLAG_TSYNC in all threads. Needs
 * no_new_privs. Returns 0 or -errno. */
int refusing_install(struct writer *to, unsigned flags);

#endif
