/* A list of what is refused, and not of what is allowed, as workers have: Python, its libraries and
 * libc's name service make some hundred calls, others with each version. Refused is what executes,
 * looks into other processes, changes the user or namespaces, reaches parts of the kernel that have
 * often been broken, or makes sockets of other kinds than the gateway's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/architecture.h"
#include "confine/bpf.h"
#include "confine/filter.h"
#include "confine/gateway.h"

#define REFUSE_CALL    (SECCOMP_RET_ERRNO | EPERM)
#define REFUSE_FAMILY  (SECCOMP_RET_ERRNO | EAFNOSUPPORT)
#define REFUSE_UNKNOWN (SECCOMP_RET_ERRNO | ENOSYS)
#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static const uint32_t refused[] = {
    SYS_execve, SYS_execveat,
    /* other processes */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    438, /* pidfd_getfd, where the libc's headers are older than the kernel */
    /* users */
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid,
    SYS_setfsgid, SYS_setgroups, SYS_capset,
    /* namespaces and mounts */
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot,
    SYS_open_by_handle_at,
    /* parts of the kernel */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_acct, SYS_quotactl, SYS_fanotify_init, SYS_personality, SYS_io_setup, 425, 426,
    427, /* io_uring */
};

/* If the call is this one, the next `n` instructions, else those behind them. */
static void if_call(struct writer *to, uint32_t call, uint8_t n) {
    add(to, BPF_JMP | BPF_JEQ | BPF_K, call, 0, n);
}

static void load_argument(struct writer *to, unsigned i) {
    size_t low = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
    load(to, offsetof(struct seccomp_data, args) + i * sizeof(uint64_t) + low);
}

static void add_sockets(struct writer *to) {
    if_call(to, SYS_socket, 6);
    load_argument(to, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 3, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 2, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 1, 0);
    end_with(to, REFUSE_FAMILY);
    end_with(to, SECCOMP_RET_ALLOW);
}

static void add_clone(struct writer *to) {
    if_call(to, SYS_clone, 4);
    load_argument(to, 0); /* flags come first on both processors */
    add(to, BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
    end_with(to, REFUSE_CALL);
    end_with(to, SECCOMP_RET_ALLOW);
    if_call(to, SYS_clone3, 1); /* its flags are behind a pointer; libc goes on with clone */
    end_with(to, REFUSE_UNKNOWN);
}

static size_t make(struct writer *to) {
#ifdef ARCHITECTURE
    load(to, offsetof(struct seccomp_data, arch));
    add(to, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
    load(to, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    add(to, BPF_JMP | BPF_JGE | BPF_K, X32_CALL_BIT, 0, 1);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
#endif
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if_call(to, refused[i], 1);
        end_with(to, REFUSE_CALL);
    }
    add_sockets(to);
    add_clone(to);
    end_with(to, SECCOMP_RET_ALLOW);
#endif
    return to->length;
}

int gateway_filter_install(void) {
    struct sock_filter instructions[FILTER_LENGTH_MAX];
    struct writer to = {instructions, 0};
    if (make(&to) == 0)
        return -ENOSYS;
    struct sock_fprog program = {.len = (unsigned short)to.length, .filter = to.program};
    long failed =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (failed > 0)
        return -EBUSY; /* a thread with another filter */
    return failed < 0 ? -errno : 0;
}
