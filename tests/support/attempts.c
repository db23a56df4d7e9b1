/* Preloaded into a gateway and all its processes: code of an attacker's in each worker.
 *
 * It runs inside the worker, in its loop, once that is confined, by the worker's own rights: it tries
 * to reach what a worker must not reach, and leaves in shared memory what came of it (attempts.py).
 *
 * A call that breaks the filter gets SIGSYS, whose handler ends the process. This one takes its place,
 * and goes on with the next attempt by longjmp: to return from a handler is a call that is not allowed
 * either. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "confine/calls.h"
#include "shared/stats.h"

enum { ROLES = 4, NAME_BYTES = 32, ATTEMPTS_MAX = 64, CALLS = 480, FILES = 64, TRAPPED = -1000 };

/* attempts.py has the same. */
struct results {
    char role[NAME_BYTES]; /* empty: none has run */
    uint32_t n;
    uint32_t is_done;
    char names[ATTEMPTS_MAX][NAME_BYTES];
    int64_t results[ATTEMPTS_MAX]; /* of the call, a negative errno, or TRAPPED */
    uint8_t not_listed[CALLS];     /* calls by number that go through, and are not in calls.h */
};

static struct results *shared, *own;
static pid_t gateway;
static sigjmp_buf next;
static char buffer[2048];

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    if (own == NULL || own->is_done)
        syscall(SYS_exit_group, 1);
    siglongjmp(next, 1);
}

/* Returns what the call does; a filter's signal comes back here. */
static long made(long number, const long *arguments) {
    if (sigsetjmp(next, 0) != 0)
        return TRAPPED;
    long result = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
    return result < 0 ? -errno : result;
}

static void attempt(const char *name, long number, const long *arguments) {
    strncpy(own->names[own->n], name, NAME_BYTES - 1);
    own->results[own->n] = made(number, arguments);
    own->n++;
}

#define ATTEMPT(name, ...) attempt(name, SYS_##__VA_ARGS__)

/* Six arguments, of which the last may be left out. */
#define WITH(...)                                                                                  \
    (const long[6]) {                                                                              \
        __VA_ARGS__                                                                                \
    }
#define AT(pointer) ((long)(intptr_t)(pointer))

static void try_files(void) {
    ATTEMPT("open", openat, WITH(AT_FDCWD, AT("/etc/passwd"), O_RDONLY));
    ATTEMPT("make a file", openat, WITH(AT_FDCWD, AT("/tmp/escaped"), O_CREAT | O_WRONLY, 0600));
    ATTEMPT("memory as a file", memfd_create, WITH(AT("x"), 0));
    ATTEMPT("remove", unlinkat, WITH(AT_FDCWD, AT("/tmp/escaped"), 0));
    ATTEMPT("list", getdents64, WITH(0, AT(buffer), sizeof buffer));
    ATTEMPT("mount", mount, WITH(AT("x"), AT("/"), AT("tmpfs")));
    ATTEMPT("chroot", chroot, WITH(AT("/")));
}

static void try_sockets(void) {
    ATTEMPT("TCP", socket, WITH(AF_INET, SOCK_STREAM));
    ATTEMPT("UDP", socket, WITH(AF_INET6, SOCK_DGRAM));
    ATTEMPT("netlink", socket, WITH(AF_NETLINK, SOCK_RAW));
    ATTEMPT("packets", socket, WITH(AF_PACKET, SOCK_RAW));
    ATTEMPT("a Unix socket", socketpair, WITH(AF_UNIX, SOCK_STREAM, 0, AT(buffer)));
    ATTEMPT("mark", setsockopt, WITH(0, SOL_SOCKET, 36, AT(buffer), 4));
    for (long fd = 0; fd < FILES; fd++)
        if (made(SYS_connect, WITH(fd, AT(buffer), 16)) != TRAPPED ||
            made(SYS_bind, WITH(fd, AT(buffer), 16)) != TRAPPED ||
            made(SYS_listen, WITH(fd, 1)) != TRAPPED)
            ATTEMPT("connect", connect, WITH(fd, AT(buffer), 16));
}

static void try_processes(void) {
    struct iovec ours = {buffer, sizeof buffer}, theirs = {buffer, sizeof buffer};
    ATTEMPT("signal the gateway", kill, WITH(gateway, SIGKILL));
    ATTEMPT("signal all", kill, WITH(-1, SIGKILL));
    ATTEMPT("signal a thread", tgkill, WITH(gateway, gateway, SIGKILL));
    ATTEMPT("trace the gateway", ptrace, WITH(16, gateway));
    ATTEMPT("read its memory", process_vm_readv, WITH(gateway, AT(&ours), 1, AT(&theirs), 1));
    ATTEMPT("write its memory", process_vm_writev, WITH(gateway, AT(&ours), 1, AT(&theirs), 1));
    ATTEMPT("a handle of it", pidfd_open, WITH(gateway, 0));
    ATTEMPT("fork", clone, WITH(SIGCHLD));
    ATTEMPT("a thread", clone, WITH(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD));
    ATTEMPT("clone3", clone3, WITH(AT(buffer), 64));
    ATTEMPT("execute", execve, WITH(AT("/bin/true"), 0, 0));
    ATTEMPT("a user", setresuid, WITH(0, 0, 0));
    ATTEMPT("capabilities", capset, WITH(AT(buffer), AT(buffer)));
    ATTEMPT("namespaces", unshare, WITH(CLONE_NEWUSER));
    ATTEMPT("another namespace", setns, WITH(0, 0));
}

static void try_kernel(void) {
    ATTEMPT("io_uring", io_uring_setup, WITH(8, AT(buffer)));
    ATTEMPT("bpf", bpf, WITH(0, AT(buffer), sizeof buffer));
    ATTEMPT("keys", keyctl, WITH(0, 0, 0));
    ATTEMPT("userfaultfd", userfaultfd, WITH(0));
    ATTEMPT("perf", perf_event_open, WITH(AT(buffer), 0, -1, -1, 0));
    ATTEMPT("seccomp", seccomp, WITH(1, 0, AT(buffer)));
    ATTEMPT("another handler", rt_sigaction, WITH(SIGSYS, AT(buffer), 0, 8));
    ATTEMPT("ioctl of the device", ioctl, WITH(0, 0x400454ca, AT(buffer)));
    ATTEMPT("code in new memory", mmap, WITH(0, 4096, PROT_READ | PROT_EXEC, 0x22, -1, 0));
    ATTEMPT("code in old memory", mprotect, WITH(AT(buffer) & ~4095L, 4096, PROT_EXEC));
}

/* The device is one of the descriptors, and so are the sockets. */
static void try_reading(void) {
    static const long reads[] = {SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_preadv2};
    static const char *const names[] = {"read", "readv", "pread", "preadv", "preadv2"};
    struct iovec all = {buffer, sizeof buffer};
    for (unsigned i = 0; i < sizeof reads / sizeof *reads; i++) {
        long worst = TRAPPED;
        for (long fd = 0; fd < FILES; fd++) {
            /* A frame that the tun-reader may read is no secret from it: it is not asked for one. */
            long at = i == 0 || i == 2 ? AT(buffer) : AT(&all), n = i == 0 || i == 2 ? 2048 : 1;
            long result = strstr(own->role, "tun-reader") && i == 0
                              ? TRAPPED
                              : made(reads[i], WITH(fd, at, n));
            worst = result == TRAPPED ? worst : result;
        }
        strncpy(own->names[own->n], names[i], NAME_BYTES - 1);
        own->results[own->n++] = worst;
    }
    ATTEMPT("splice", splice, WITH(0, 0, 1, 0, 4096));
    ATTEMPT("sendfile", sendfile, WITH(1, 0, 0, 4096));
}

enum { URETPROBE = 335, UPROBE = 336 };

/* Two that no filter is asked about (Linux 6.14): the kernel ends whoever makes them by itself. */
static int is_listed(long number, unsigned role) {
    if (number == URETPROBE || number == UPROBE)
        return 1;
#define LISTED(name, roles, condition, action, why)                                                \
    if (number == SYS_##name && ((roles)&role) != 0)                                               \
        return 1;
    CONFINE_CALLS(LISTED)
    return 0;
}

/* With -1 for everything: none that is allowed does anything then, but for the end of the process. */
static void try_all(void) {
    const long nothing[6] = {-1, -1, -1, -1, -1, -1};
    for (long number = 0; number < CALLS; number++)
        own->not_listed[number] =
            !is_listed(number, 1u << (own - shared)) && made(number, nothing) != TRAPPED;
}

static void run(void) {
    try_files();
    try_sockets();
    try_processes();
    try_kernel();
    try_reading();
    try_all();
    __atomic_store_n(&own->is_done, 1, __ATOMIC_RELEASE);
}

/* -- when --------------------------------------------------------------------------------------- */

__attribute__((constructor)) static void map_results(void) {
    const char *path = getenv("ATTEMPTS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *memory = mmap(NULL, ROLES * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared = memory == MAP_FAILED ? NULL : memory;
    close(fd);
}

/* By its title, of which the kernel keeps 15 characters; it opens no file any more. */
static void choose_own(void) {
    static const char *const roles[ROLES] = {
        [ROLE_tun_reader] = "tun-reader",
        [ROLE_link_writer] = "link-writer",
        [ROLE_link_reader] = "link-reader",
        [ROLE_tun_writer] = "tun-writer",
    };
    char title[16] = "";
    prctl(PR_GET_NAME, title);
    for (int i = 0; i < ROLES && own == NULL; i++)
        if (strncmp(title, "fastun: ", 8) == 0 && strncmp(title + 8, roles[i], 7) == 0 &&
            shared[i].role[0] == '\0')
            own = &shared[i];
    if (own != NULL)
        strncpy(own->role, roles[own - shared], NAME_BYTES - 1);
    gateway = getppid();
}

/* The last that a worker does before its filter is there is to say what happens at a break. */
int sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    int (*real)(int, const struct sigaction *, struct sigaction *) =
        (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSYS || action == NULL || shared == NULL)
        return real(number, action, before);
    choose_own();
    struct sigaction ours = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    return real(number, &ours, before);
}

/* Every worker reads the gateway's messages by this one, between two runs of its loop. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    if (own != NULL && own->n == 0)
        run();
    return syscall(SYS_recvmsg, fd, message, flags);
}
