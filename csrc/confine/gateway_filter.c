/* Refused beside what refusing.c has: what changes the user, and sockets of other kinds than the
 * gateway's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "confine/filter.h"
#include "confine/gateway.h"
#include "confine/refusing.h"

static const uint32_t of_users[] = {
    SYS_setuid,    SYS_setgid,   SYS_setreuid, SYS_setregid,  SYS_setresuid,
    SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capset,
};

static void allow_own_sockets(struct writer *to) {
    refusing_if_call(to, SYS_socket, 6);
    refusing_load_argument(to, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 3, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 2, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 1, 0);
    end_with(to, REFUSE_FAMILY);
    end_with(to, SECCOMP_RET_ALLOW);
}

int gateway_filter_install(void) {
    struct sock_filter instructions[FILTER_LENGTH_MAX];
    struct writer to = {instructions, 0};
    if (!refusing_begin(&to))
        return -ENOSYS;
    refusing_calls(&to, of_users, sizeof of_users / sizeof *of_users);
    allow_own_sockets(&to);
    return refusing_install(&to, SECCOMP_FILTER_FLAG_TSYNC);
}
