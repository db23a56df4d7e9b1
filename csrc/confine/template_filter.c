/* Refused beside what refusing.c has: what makes, connects or opens a socket to others, and signals to
 * other processes. The workers that it forks are under this as well, and each then under its own
 * (calls.h), which it has to be able to put on: so capset() and the like stay. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/filter.h"
#include "confine/refusing.h"
#include "confine/template.h"

static const uint32_t of_others[] = {
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    424, /* pidfd_send_signal */
};

/* It may end itself. A worker is another process, and has no use for these. */
static void allow_signals_to_itself(struct writer *to, uint32_t call) {
    refusing_if_call(to, call, 4);
    refusing_load_argument(to, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 1, 0);
    end_with(to, REFUSE_CALL);
    end_with(to, SECCOMP_RET_ALLOW);
}

int template_filter_install(void) {
    struct sock_filter instructions[FILTER_LENGTH_MAX];
    struct writer to = {instructions, 0};
    if (!refusing_begin(&to))
        return -ENOSYS;
    refusing_calls(&to, of_others, sizeof of_others / sizeof *of_others);
    allow_signals_to_itself(&to, SYS_kill);
    allow_signals_to_itself(&to, SYS_tgkill);
    return refusing_install(&to, 0);
}
