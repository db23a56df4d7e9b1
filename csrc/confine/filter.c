/* Classic BPF, by hand: the call's number is compared with each line of calls.h in turn. Calls that
 * are allowed whatever their arguments are kept by the kernel in a bitmap (Linux 5.11), and cost no
 * program at all.
 *
 * SECCOMP_RET_KILL_PROCESS would not say which call it was. SECCOMP_RET_TRAP sends SIGSYS with the
 * number instead of making the call; the handler leaves it in the statistics and ends the process by
 * the same signal. An attacker's code that has changed what the handler uses gains nothing: the call
 * was not made, and the handler can do no more than any other code of the process. */
#define _GNU_SOURCE
#include "confine/filter.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/architecture.h"
#include "confine/bpf.h"
#include "confine/calls.h"

/* asm-generic/siginfo.h: what si_code says of a SIGSYS that a filter sends. */
enum { OF_SECCOMP = 1 };

enum { N_CONDITIONS = 2 };

#define EVERY_BIT 0xffffffffu

/* Of an argument the upper half: the others are compared in the lower one alone. */
enum { UPPER = 0x100 };

struct condition {
    unsigned argument;    /* and UPPER */
    uint32_t mask, value; /* mask 0: none */
};

struct line {
    uint32_t call;
    unsigned roles;
    struct condition conditions[N_CONDITIONS];
    uint32_t action;
};

#define ANY                                                                                        \
    {                                                                                              \
        { 0 }                                                                                      \
    }
#define ARGUMENT(i, mask, value)                                                                   \
    {                                                                                              \
        { i, mask, value }                                                                         \
    }
#define FUTEX(operation) ARGUMENT(1, ~(uint32_t)FUTEX_PRIVATE_FLAG, operation)
#define ADVICE(advice)   ARGUMENT(2, EVERY_BIT, advice)
#define OPTION(level, name)                                                                        \
    {                                                                                              \
        {1, EVERY_BIT, level}, {                                                                   \
            2, EVERY_BIT, name                                                                     \
        }                                                                                          \
    }
/* A filter does not see what a descriptor is. The device gives nothing of a frame to a read that has
 * no room for its offload header, 10 bytes; an eventfd gives 8. */
#define BYTES(n)                                                                                   \
    {                                                                                              \
        {2, EVERY_BIT, n}, {                                                                       \
            2 | UPPER, EVERY_BIT, 0                                                                \
        }                                                                                          \
    }
#define ALLOW  SECCOMP_RET_ALLOW
#define REFUSE (SECCOMP_RET_ERRNO | ENOMEM)

/* The macros of conditions have commas of their own. */
#define LINE(name, in_roles, condition, what, why)                                                 \
    {.call = SYS_##name, .roles = in_roles, .conditions = condition, .action = what},

static const struct line lines[] = {CONFINE_CALLS(LINE)};

enum { N_LINES = sizeof lines / sizeof *lines };

/* -- the program ------------------------------------------------------------------------------- */

static void load_call(struct writer *to) {
    load(to, offsetof(struct seccomp_data, nr));
}

/* The lower half is enough where the kernel takes an argument as int, and of mmap's. */
static void load_argument(struct writer *to, unsigned argument) {
    bool is_upper = (argument & UPPER) != 0;
    size_t half = (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) != is_upper ? 4 : 0;
    size_t at = (argument & ~(unsigned)UPPER) * sizeof(uint64_t) + half;
    load(to, offsetof(struct seccomp_data, args) + at);
}

static bool is_conditional(const struct line *line) {
    return line->conditions[0].mask != 0;
}

/* A place in the program from which to go to the end of the line if the comparison fails. */
static size_t compare(struct writer *to, uint32_t value) {
    add(to, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0);
    return to->length - 1;
}

static void add_line(struct writer *to, const struct line *line) {
    size_t fails[1 + N_CONDITIONS], n_fails = 0;
    fails[n_fails++] = compare(to, line->call);
    for (int i = 0; i < N_CONDITIONS && line->conditions[i].mask != 0; i++) {
        const struct condition *condition = &line->conditions[i];
        load_argument(to, condition->argument);
        if (condition->mask != EVERY_BIT)
            add(to, BPF_ALU | BPF_AND | BPF_K, condition->mask, 0, 0);
        fails[n_fails++] = compare(to, condition->value);
    }
    end_with(to, line->action);
    for (size_t i = 0; i < n_fails; i++)
        to->program[fails[i]].jf = (uint8_t)(to->length - fails[i] - 1);
    if (is_conditional(line))
        load_call(to);
}

/* A number means something else for each kind of process that the kernel runs. */
static void add_preamble(struct writer *to, uint32_t architecture) {
    load(to, offsetof(struct seccomp_data, arch));
    add(to, BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
    load_call(to);
#ifdef __x86_64__
    add(to, BPF_JMP | BPF_JGE | BPF_K, X32_CALL_BIT, 0, 1);
    end_with(to, SECCOMP_RET_KILL_PROCESS);
#endif
}

size_t filter_make(struct sock_filter program[FILTER_LENGTH_MAX], enum stats_role role,
                   uint32_t otherwise) {
#ifdef ARCHITECTURE
    struct writer to = {.program = program};
    add_preamble(&to, ARCHITECTURE);
    for (size_t i = 0; i < N_LINES; i++)
        if (lines[i].roles & 1u << role)
            add_line(&to, &lines[i]);
    end_with(&to, otherwise);
    return to.length;
#else
    (void)program, (void)role, (void)otherwise;
    return 0;
#endif
}

static bool is_allowed(const struct line *line, enum stats_role role) {
    return line->action == ALLOW && line->roles & 1u << role;
}

unsigned filter_n_calls(enum stats_role role) {
    unsigned n = 0;
    for (size_t i = 0; i < N_LINES; i++) {
        bool is_first = is_allowed(&lines[i], role);
        for (size_t j = 0; j < i && is_first; j++)
            is_first = lines[j].call != lines[i].call || !is_allowed(&lines[j], role);
        n += is_first;
    }
    return n;
}

/* -- under it ---------------------------------------------------------------------------------- */

static struct stats_block *noted_in;

static void note_and_end(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code == OF_SECCOMP)
        stats_forbidden(noted_in, (uint32_t)info->si_syscall);
    /* Not allowed either, so its first system call ends the process: SA_RESETHAND. */
    raise(number);
}

static int catch_breaks(struct stats_block *stats) {
    noted_in = stats;
    struct sigaction action = {.sa_sigaction = note_and_end,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | (int)SA_RESETHAND};
    return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/* SPEC_ALLOW (4.17): speculation is no worse for a process whose secrets are its own, and kernels
 * before 5.16 would otherwise slow down all of its code. */
static int set_filter(const struct sock_fprog *program) {
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, program) == 0)
        return 0;
    if (errno == EINVAL && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) == 0)
        return 0;
    return -errno;
}

int filter_install(enum stats_role role, struct stats_block *stats) {
    struct sock_filter program[FILTER_LENGTH_MAX];
    size_t length = filter_make(program, role, SECCOMP_RET_TRAP);
    if (length == 0)
        return -ENOSYS;
    int error = catch_breaks(stats);
    if (error < 0)
        return error;
    return set_filter(&(struct sock_fprog){.len = (unsigned short)length, .filter = program});
}
