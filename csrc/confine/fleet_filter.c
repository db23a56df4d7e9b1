/* Refused beside what refusing.c has: what changes the user, modes and owners of files, and other
 * processes; sockets that listen, and those of other kinds than a client of a database has. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "confine/filter.h"
#include "confine/fleet.h"
#include "confine/refusing.h"

static const uint32_t of_fleet[] = {
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid,
    SYS_setfsgid, SYS_setgroups, SYS_capset,
    /* files, by their owner */
    SYS_fchmod, SYS_fchmodat, 452 /* fchmodat2 */, SYS_fchown, SYS_fchownat, SYS_setxattr,
    SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
    SYS_utimensat, SYS_truncate,
#ifdef SYS_chmod
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat,
#endif
    /* other processes of the same user */
    SYS_setpriority, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setaffinity,
    SYS_ioprio_set, SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    424 /* pidfd_send_signal */, 434 /* pidfd_open */, SYS_listen, SYS_accept, SYS_accept4};

/* libc looks by a netlink socket which kinds of addresses this host has. */
static void allow_sockets(struct writer *to, int has_local_sockets) {
    refusing_if_call(to, SYS_socket, 7);
    refusing_load_argument(to, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 4, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 3, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 2, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, has_local_sockets ? AF_UNIX : AF_INET, 1, 0);
    end_with(to, REFUSE_FAMILY);
    end_with(to, SECCOMP_RET_ALLOW);
}

int fleet_filter_install(int has_local_sockets) {
    struct sock_filter instructions[FILTER_LENGTH_MAX];
    struct writer to = {instructions, 0};
    if (!refusing_begin(&to))
        return -ENOSYS;
    refusing_calls(&to, of_fleet, sizeof of_fleet / sizeof *of_fleet);
    refusing_but_oneself(&to, SYS_kill);
    refusing_but_oneself(&to, SYS_tgkill);
    refusing_but_oneself(&to, SYS_prlimit64);
    allow_sockets(&to, has_local_sockets);
    return refusing_install(&to, 0);
}
