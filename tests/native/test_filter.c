/* Each role's filter under the kernel: every system call number, arguments, and who breaks it. */
#define _GNU_SOURCE
#include "confine/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "confine/calls.h"

enum { N_CALLS_TRIED = 1024, REFUSED = 4000 };

/* As calls.h has them, whatever their condition. */
static bool is_listed(unsigned role, long call) {
#define X(name, roles, ...)                                                                        \
    if (call == SYS_##name && (roles)&1u << role)                                                  \
        return true;
    CONFINE_CALLS(X)
#undef X
    return false;
}

static bool set_filter(struct sock_filter *program, size_t length) {
    const struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0;
}

static bool is_refused(long call, long a, long b, long c) {
    errno = 0;
    return syscall(call, a, b, c, 0, 0, 0) == -1 && errno == REFUSED;
}

/* Not by _exit: before it AddressSanitizer makes system calls of its own. */
static void end(int status) {
    syscall(SYS_exit_group, status);
}

/* Runs `body` in a child under the role's filter, where what is not allowed fails. */
static int exit_status_under(unsigned role, int (*body)(unsigned)) {
    struct sock_filter program[FILTER_LENGTH_MAX];
    size_t length =
        filter_make(program, (enum stats_role)role, SECCOMP_RET_ERRNO | (uint32_t)REFUSED);
    pid_t child = fork();
    if (child == 0)
        end(set_filter(program, length) ? body(role) : 255);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* uretprobe and uprobe: Linux passes them by filters (6.13), and ends by SIGILL what calls them
 * outside the kernel's own trampoline. */
static bool is_past_filters(long call) {
#ifdef __x86_64__
    return call == 335 || call == 336;
#else
    (void)call;
    return false;
#endif
}

static int try_all_others(unsigned role) {
    int n_passed = 0;
    for (long call = 0; call < N_CALLS_TRIED; call++)
        n_passed +=
            !is_listed(role, call) && !is_past_filters(call) && !is_refused(call, -1, -1, -1);
    return n_passed > 100 ? 100 : n_passed;
}

static void no_other_system_call_of_any_number_is_made(void) {
    for (unsigned role = 0; role < N_ROLES; role++)
        CHECK_EQUAL(exit_status_under(role, try_all_others), 0);
}

static int try_arguments(unsigned role) {
    int fd = -1, fault = 0;
    fault |= !is_refused(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC);
    fault |= !is_refused(SYS_mmap, 0, 4096, PROT_WRITE | PROT_EXEC);
    fault |= !is_refused(SYS_futex, 0, FUTEX_CMP_REQUEUE_PI, 0) << 1;
    fault |= !is_refused(SYS_futex, 0, FUTEX_LOCK_PI, 0) << 1;
    fault |= !is_refused(SYS_madvise, 0, 0, MADV_DOFORK) << 2;
    fault |= !is_refused(SYS_madvise, 0, 0, MADV_HWPOISON) << 2;
    fault |= !is_refused(SYS_setsockopt, fd, SOL_SOCKET, SO_MARK) << 3;
    fault |= !is_refused(SYS_setsockopt, fd, IPPROTO_IP, IPV6_MTU) << 3;
    fault |= !is_refused(SYS_setsockopt, fd, IPPROTO_IPV6, IPV6_2292PKTINFO) << 3;
    bool sets_options =
        syscall(SYS_setsockopt, fd, IPPROTO_IP, IP_MTU_DISCOVER, 0, 0) == -1 && errno == EBADF;
    fault |= (sets_options != (role == ROLE_link_writer)) << 4;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fault |= (memory == MAP_FAILED) << 5;
    fault |= !(syscall(SYS_mremap, memory, 4096, 8192, MREMAP_MAYMOVE) == -1 && errno == ENOMEM)
             << 6;
    /* Of the device a writer reads nothing: what is read is as long as an eventfd's count. */
    fault |= (is_refused(SYS_read, fd, 0, 8) != (role == ROLE_link_reader)) << 7;
    fault |= (is_refused(SYS_read, fd, 0, 9) != (role != ROLE_tun_reader)) << 7;
    fault |= (is_refused(SYS_read, fd, 0, (1L << 32) + 8) != (role != ROLE_tun_reader)) << 7;
    fault |= (is_refused(SYS_read, fd, 0, 0) != (role != ROLE_tun_reader)) << 7;
    return fault;
}

static void calls_are_made_only_with_the_arguments_that_are_used(void) {
    for (unsigned role = 0; role < N_ROLES; role++)
        CHECK_EQUAL(exit_status_under(role, try_arguments), 0);
}

static void a_role_makes_twenty_calls_at_most(void) {
    struct sock_filter program[FILTER_LENGTH_MAX];
    for (unsigned role = 0; role < N_ROLES; role++) {
        printf("        %s: %u system calls\n", stats_role_name(role),
               filter_n_calls((enum stats_role)role));
        CHECK(filter_n_calls((enum stats_role)role) <= CALLS_MAX);
        CHECK(filter_n_calls((enum stats_role)role) > CALLS_MAX / 2);
        CHECK(filter_make(program, (enum stats_role)role, 0) < FILTER_LENGTH_MAX);
    }
}

/* -- the program itself, as the kernel would run it --------------------------------------------- */

static uint32_t run(const struct sock_filter *program, const struct seccomp_data *data) {
    uint32_t a = 0;
    for (size_t i = 0; i < FILTER_LENGTH_MAX; i++) {
        const struct sock_filter *at = &program[i];
        switch (at->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            memcpy(&a, (const char *)data + at->k, sizeof a);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= at->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            i += a == at->k ? at->jt : at->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            i += a >= at->k ? at->jt : at->jf;
            break;
        case BPF_RET | BPF_K:
            return at->k;
        default:
            CHECK(false);
        }
    }
    CHECK(false);
    return 0;
}

static void calls_of_another_processor_kill_whatever_their_number(void) {
    struct sock_filter program[FILTER_LENGTH_MAX];
    for (unsigned role = 0; role < N_ROLES; role++) {
        filter_make(program, (enum stats_role)role, SECCOMP_RET_TRAP);
        for (int call = 0; call < N_CALLS_TRIED; call++) {
            struct seccomp_data data = {.nr = call, .arch = AUDIT_ARCH_I386};
            CHECK_EQUAL(run(program, &data), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
            data = (struct seccomp_data){.nr = call | 0x40000000, .arch = AUDIT_ARCH_X86_64};
            CHECK_EQUAL(run(program, &data), SECCOMP_RET_KILL_PROCESS);
            data.nr = call;
            bool is_other = run(program, &data) == SECCOMP_RET_TRAP;
            CHECK(is_other || is_listed(role, call));
#endif
        }
    }
}

/* -- breaking it ------------------------------------------------------------------------------- */

/* Of an attacker with all of the process: a file, a socket, a signal, a trace, memory of others, a
 * program, a process, code of its own. */
static const long attempts[] = {
    SYS_openat,  SYS_socket, SYS_kill,     SYS_ptrace,       SYS_process_vm_readv,
    SYS_execve,  SYS_clone,  SYS_mprotect, SYS_rt_sigaction, SYS_memfd_create,
    SYS_connect, SYS_bind,   SYS_setuid,   SYS_seccomp,      SYS_io_uring_setup,
    SYS_clone3,  SYS_readv,  SYS_ioctl,    SYS_fcntl,        SYS_process_vm_writev,
    SYS_tgkill,  SYS_dup,    SYS_unshare,  SYS_setns,        SYS_pidfd_open,
    SYS_bpf,     SYS_prctl,  SYS_mount,    SYS_userfaultfd,  SYS_pidfd_getfd,
    SYS_splice,  SYS_capset, SYS_shmget,   SYS_execveat,     SYS_perf_event_open,
    SYS_accept4, SYS_sendto, SYS_recvfrom, SYS_preadv2,      SYS_sched_setaffinity,
};

static void breaking_it_ends_the_process_and_leaves_the_number(void) {
    struct stats *stats =
        mmap(NULL, sizeof *stats, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(stats != MAP_FAILED);
    for (unsigned role = 0; role < N_ROLES; role++)
        for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
            pid_t child = fork();
            if (child == 0) {
                prctl(PR_SET_DUMPABLE, 0);
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if (filter_install((enum stats_role)role, &stats->parts[role].block) < 0)
                    _exit(1);
                syscall(attempts[i], 0, 0, 0, 0, 0, 0);
                end(2);
            }
            int status = 0;
            waitpid(child, &status, 0);
            CHECK(WIFSIGNALED(status));
            CHECK_EQUAL(WTERMSIG(status), SIGSYS);
            CHECK_EQUAL(stats->parts[role].block.forbidden_call, (uint64_t)attempts[i] + 1);
        }
    munmap(stats, sizeof *stats);
}

int main(void) {
    RUN(a_role_makes_twenty_calls_at_most);
    RUN(no_other_system_call_of_any_number_is_made);
    RUN(calls_are_made_only_with_the_arguments_that_are_used);
    RUN(calls_of_another_processor_kill_whatever_their_number);
    RUN(breaking_it_ends_the_process_and_leaves_the_number);
    return EXIT_SUCCESS;
}
