#define _GNU_SOURCE
#include "confine/refusing.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/architecture.h"

#define REFUSE_UNKNOWN (SECCOMP_RET_ERRNO | ENOSYS)
#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static const uint32_t refused[] = {
    SYS_execve, SYS_execveat,
    /* other processes */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    438, /* pidfd_getfd, where the libc's headers are older than the kernel */
    /* namespaces and mounts */
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot,
    SYS_open_by_handle_at,
    /* parts of the kernel */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_acct, SYS_quotactl, SYS_fanotify_init, SYS_personality, SYS_io_setup, 425, 426,
    427, /* io_uring */
};

void refusing_if_call(struct writer *to, uint32_t call, uint8_t n) {
    add(to, BPF_JMP | BPF_JEQ | BPF_K, call, 0, n);
}

void refusing_load_argument(struct writer *to, unsigned i) {
    size_t low = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
    load(to, offsetof(struct seccomp_data, args) + i * sizeof(uint64_t) + low);
}

void refusing_calls(struct writer *to, const uint32_t *calls, size_t n) {
    for (size_t i = 0; i < n; i++) {
        refusing_if_call(to, calls[i], 1);
        end_with(to, REFUSE_CALL);
    }
}

void refusing_but_oneself(struct writer *to, uint32_t call) {
    refusing_if_call(to, call, 5);
    refusing_load_argument(to, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 2, 0);
    add(to, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    end_with(to, REFUSE_CALL);
    end_with(to, SECCOMP_RET_ALLOW);
}

static void refuse_new_namespaces(struct writer *to) {
    refusing_if_call(to, SYS_clone, 4);
    refusing_load_argument(to, 0); /* flags come first on both processors */
    add(to, BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
    end_with(to, REFUSE_CALL);
    end_with(to, SECCOMP_RET_ALLOW);
    refusing_if_call(to, SYS_clone3,
                     1); /* its flags are behind a pointer; libc goes on with clone */
    end_with(to, REFUSE_UNKNOWN);
}

int refusing_begin(struct writer *to) {
#ifdef ARCHITECTURE
    load(to, offsetof(struct seccomp_data, arch));
    add(to, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
    load(to, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    add(to, BPF_JMP | BPF_JGE | BPF_K, X32_CALL_BIT, 0, 1);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
#endif
    refusing_calls(to, refused, sizeof refused / sizeof *refused);
    refuse_new_namespaces(to);
    return 1;
#else
    (void)to;
    return 0;
#endif
}

int refusing_install(struct writer *to, unsigned flags) {
    end_with(to, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)to->length, .filter = to->program};
    long failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (failed > 0)
        return -EBUSY; /* a thread with another filter */
    return failed < 0 ? -errno : 0;
}
