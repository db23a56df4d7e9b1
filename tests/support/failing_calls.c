/* Preloaded into a gateway and all its processes: lets one system call of one of them fail for a
 * while, as if the kernel had refused it (failing_calls.py says which, in shared memory).
 *
 * Made in front of libc, not by a filter: it costs a process next to nothing, so that the time it
 * then needs is its own; it is there in confined workers, who make no call for it; and a close that
 * fails has closed, as in the kernel. What libc calls itself is not reached (malloc's brk, say).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* By the kernel's names; the functions below say which of libc's make them. */
#define CALLS(X)                                                                                   \
    X(read) X(readv) X(write) X(writev) X(pread64) X(pwrite64) X(recvfrom) X(recvmsg) X(recvmmsg)  \
    X(sendto) X(sendmsg) X(sendmmsg) X(poll) X(ppoll) X(epoll_wait) X(epoll_pwait) X(epoll_ctl)    \
    X(futex) X(socket) X(socketpair) X(bind) X(listen) X(accept4) X(connect) X(getsockname)        \
    X(getsockopt) X(setsockopt) X(openat) X(close) X(fcntl) X(ioctl) X(fsync) X(ftruncate)         \
    X(rename) X(unlink) X(mkdir) X(memfd_create) X(mmap) X(munmap) X(madvise) X(mlock)             \
    X(getrandom) X(pidfd_open) X(clone)

enum call {
#define X(name) CALL_##name,
    CALLS(X)
#undef X
        N_CALLS
};

enum { NAME_BYTES = 32, TITLES_MAX = 32, TITLE_BYTES = 64, NEVER_RETURNS = -1 };

/* failing_calls.py has the same. */
struct control {
    _Atomic uint32_t is_on;
    _Atomic uint32_t call;
    _Atomic int32_t error;
    _Atomic uint32_t every; /* 2: every other call goes through */
    _Atomic uint64_t n_failed;
    char title[TITLE_BYTES]; /* of the processes: what their argv[0] contains */
    char names[N_CALLS][NAME_BYTES];
    _Atomic uint32_t n_titles;
    char titles[TITLES_MAX][TITLE_BYTES];
    _Atomic uint64_t n_made[TITLES_MAX][N_CALLS];
    _Atomic int64_t clock_ahead_s; /* by which the wall clock is wrong */
};

static struct control *control;
static const char *title = "";
static char title_seen[TITLE_BYTES];
static unsigned title_place;

/* Titles change: a fork of the template becomes a worker. */
static unsigned place_of_title(void) {
    if (strncmp(title, title_seen, TITLE_BYTES - 1) == 0)
        return title_place;
    unsigned n = atomic_load(&control->n_titles), place = 0;
    while (place < n && strncmp(control->titles[place], title, TITLE_BYTES - 1) != 0)
        place++;
    if (place == n) {
        place = atomic_fetch_add(&control->n_titles, 1);
        if (place >= TITLES_MAX)
            place = TITLES_MAX - 1;
        strncpy(control->titles[place], title, TITLE_BYTES - 1);
    }
    strncpy(title_seen, title, TITLE_BYTES - 1);
    title_place = place;
    return place;
}

static void syscall_futex(_Atomic uint32_t *word, uint32_t seen);

static int fails(enum call call) {
    if (control == NULL)
        return 0;
    uint64_t n = atomic_fetch_add(&control->n_made[place_of_title()][call], 1);
    if (atomic_load(&control->is_on) != 1 || atomic_load(&control->call) != call ||
        n % atomic_load(&control->every) != 0 || strstr(title, control->title) == NULL)
        return 0;
    atomic_fetch_add(&control->n_failed, 1);
    int error = atomic_load(&control->error);
    uint32_t on = 1;
    if (error != NEVER_RETURNS)
        return error;
    if (!atomic_compare_exchange_strong(&control->is_on, &on, 2))
        return 0; /* one is enough: not its successor as well */
    for (;;) /* as in a driver that hangs; by a call that every worker may make */
        syscall_futex(&control->is_on, atomic_load(&control->is_on));
}

#define REAL(function)                                                                             \
    static __typeof__(&function) real;                                                             \
    if (real == NULL)                                                                              \
    real = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

#define WRAP(type, function, call, parameters, arguments)                                          \
    type function parameters {                                                                     \
        REAL(function);                                                                            \
        int error = fails(CALL_##call);                                                            \
        if (error == 0)                                                                            \
            return real arguments;                                                                 \
        errno = error;                                                                             \
        return (type)-1;                                                                           \
    }

typedef const struct timespec *Time;
typedef struct sockaddr *restrict Address;
typedef socklen_t *restrict Length;

WRAP(ssize_t, read, read, (int fd, void *to, size_t n), (fd, to, n))
WRAP(ssize_t, readv, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n))
WRAP(ssize_t, write, write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP(ssize_t, writev, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n))
WRAP(int, eventfd_read, read, (int fd, eventfd_t *value), (fd, value))
WRAP(int, eventfd_write, write, (int fd, eventfd_t value), (fd, value))
WRAP(ssize_t, pread64, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
WRAP(ssize_t, pwrite64, pwrite64, (int fd, const void *from, size_t n, off64_t at),
     (fd, from, n, at))
WRAP(ssize_t, recv, recvfrom, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
WRAP(ssize_t, recvfrom, recvfrom,
     (int fd, void *restrict to, size_t n, int flags, Address from, Length length),
     (fd, to, n, flags, from, length))
WRAP(ssize_t, recvmsg, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, recvmmsg, recvmmsg,
     (int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *limit),
     (fd, messages, n, flags, limit))
WRAP(ssize_t, send, sendto, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))
WRAP(ssize_t, sendto, sendto,
     (int fd, const void *from, size_t n, int flags, const struct sockaddr *to, socklen_t length),
     (fd, from, n, flags, to, length))
WRAP(ssize_t, sendmsg, sendmsg, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(int, sendmmsg, sendmmsg, (int fd, struct mmsghdr *messages, unsigned n, int flags),
     (fd, messages, n, flags))
WRAP(int, poll, poll, (struct pollfd * fds, nfds_t n, int limit_ms), (fds, n, limit_ms))
WRAP(int, ppoll, ppoll, (struct pollfd * fds, nfds_t n, Time limit, const sigset_t *mask),
     (fds, n, limit, mask))
WRAP(int, epoll_wait, epoll_wait, (int fd, struct epoll_event *events, int n, int limit_ms),
     (fd, events, n, limit_ms))
WRAP(int, epoll_pwait, epoll_pwait,
     (int fd, struct epoll_event *events, int n, int limit_ms, const sigset_t *mask),
     (fd, events, n, limit_ms, mask))
WRAP(int, epoll_ctl, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event),
     (epoll, what, fd, event))
WRAP(int, socket, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP(int, socketpair, socketpair, (int family, int type, int protocol, int pair[2]),
     (family, type, protocol, pair))
WRAP(int, bind, bind, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
WRAP(int, listen, listen, (int fd, int n), (fd, n))
WRAP(int, accept4, accept4, (int fd, Address from, Length n, int flags), (fd, from, n, flags))
WRAP(int, connect, connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
WRAP(int, getsockname, getsockname, (int fd, Address address, Length n), (fd, address, n))
WRAP(int, getsockopt, getsockopt,
     (int fd, int level, int name, void *restrict value, Length length),
     (fd, level, name, value, length))
WRAP(int, setsockopt, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length))
WRAP(int, fsync, fsync, (int fd), (fd))
WRAP(int, fdatasync, fsync, (int fd), (fd))
WRAP(int, ftruncate64, ftruncate, (int fd, off64_t length), (fd, length))
WRAP(int, rename, rename, (const char *from, const char *to), (from, to))
WRAP(int, unlink, unlink, (const char *path), (path))
WRAP(int, mkdir, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, memfd_create, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(void *, mmap, mmap, (void *at, size_t n, int protection, int flags, int fd, off_t offset),
     (at, n, protection, flags, fd, offset))
WRAP(void *, mmap64, mmap, (void *at, size_t n, int protection, int flags, int fd, off64_t offset),
     (at, n, protection, flags, fd, offset))
WRAP(int, munmap, munmap, (void *at, size_t n), (at, n))
WRAP(int, madvise, madvise, (void *at, size_t n, int advice), (at, n, advice))
WRAP(int, mlock, mlock, (const void *at, size_t n), (at, n))
WRAP(ssize_t, getrandom, getrandom, (void *to, size_t n, unsigned flags), (to, n, flags))
WRAP(pid_t, fork, clone, (void), ())

static int64_t ahead_s(void) {
    return control == NULL ? 0 : atomic_load(&control->clock_ahead_s);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += ahead_s();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int result = real(now, zone);
    if (result == 0)
        now->tv_sec += ahead_s();
    return result;
}

time_t time(time_t *to) {
    REAL(time);
    time_t now = real(NULL) + ahead_s();
    if (to != NULL)
        *to = now;
    return now;
}

/* The descriptor is gone all the same: close(2). */
int close(int fd) {
    REAL(close);
    int error = fails(CALL_close);
    int result = real(fd);
    if (error == 0)
        return result;
    errno = error;
    return -1;
}

#define WRAP_OPEN(function, parameters, arguments)                                                 \
    int function parameters {                                                                      \
        REAL(function);                                                                            \
        int error = fails(CALL_openat);                                                            \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                    \
        va_end(more);                                                                              \
        if (error == 0)                                                                            \
            return real arguments;                                                                 \
        errno = error;                                                                             \
        return -1;                                                                                 \
    }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))

#define WRAP_LAST(function, call, type)                                                            \
    int function(int fd, type what, ...) {                                                         \
        REAL(function);                                                                            \
        va_list more;                                                                              \
        va_start(more, what);                                                                      \
        void *last = va_arg(more, void *);                                                         \
        va_end(more);                                                                              \
        int error = fails(CALL_##call);                                                            \
        if (error == 0)                                                                            \
            return real(fd, what, last);                                                           \
        errno = error;                                                                             \
        return -1;                                                                                 \
    }

WRAP_LAST(fcntl, fcntl, int)
WRAP_LAST(fcntl64, fcntl, int)
WRAP_LAST(ioctl, ioctl, unsigned long)

static int fails_by_number(long number, long operation) {
    switch (number) {
    case SYS_futex: /* a wake-up cannot fail */
        return (operation & 127) == 0 ? fails(CALL_futex) : 0;
    case SYS_pidfd_open:
        return fails(CALL_pidfd_open);
    case SYS_clone:
    case SYS_clone3:
        return fails(CALL_clone);
    default:
        return 0;
    }
}

long syscall(long number, ...) {
    REAL(syscall);
    va_list more;
    long a[6];
    va_start(more, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    int error = fails_by_number(number, a[1]);
    if (error == 0)
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errno = error;
    return -1;
}

static void syscall_futex(_Atomic uint32_t *word, uint32_t seen) {
    REAL(syscall);
    real(SYS_futex, (uint32_t *)word, 0 /* FUTEX_WAIT */, seen, NULL, NULL, 0);
}

/* Before the process gives up the right to open files; forks have it from their parent. */
__attribute__((constructor)) static void begin(int argc, char **argv) {
    const char *path = getenv("FAILING_CALLS");
    int fd = path == NULL || argc < 1 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED)
        return;
    title = argv[0];
    struct control *shared = memory;
#define X(name) strcpy(shared->names[CALL_##name], #name);
    CALLS(X)
#undef X
    control = shared;
}
