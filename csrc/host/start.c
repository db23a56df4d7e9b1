/* A program, started from a process with threads: between clone and execve there are only system
 * calls. Unlike posix_spawn() it can be made our parent's child (CLONE_PARENT). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastun.h"

/* Ours are closed by exec anyway; those that this process was started with may not be. */
static void close_others_at_exec(void) {
    enum {
        CLOSE_RANGE = 436,
        AT_EXEC = 4
    }; /* where the libc's headers are older than the kernel */
    struct rlimit limit = {.rlim_cur = 1024};
    if (syscall(CLOSE_RANGE, STDERR_FILENO + 1, ~0u, AT_EXEC) == 0) /* Linux 5.11 */
        return;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = STDERR_FILENO + 1; fd < (int)limit.rlim_cur; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int move_descriptors(const struct process_wanted *wanted) {
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    if (null > STDERR_FILENO)
        close(null);
    if (wanted->log_fd >= 0 && dup2(wanted->log_fd, STDERR_FILENO) < 0)
        return -errno;
    close_others_at_exec();
    return fcntl(wanted->inherited_fd, F_SETFD, 0) < 0 ? -errno : 0;
}

static void become(const struct process_wanted *wanted, int failure_fd) {
    sigset_t none;
    sigemptyset(&none);
    int error = move_descriptors(wanted);
    if (error == 0 && (setpgid(0, 0) < 0 || chdir("/") < 0))
        error = -errno;
    if (error == 0) {
        signal(SIGPIPE, SIG_DFL); /* which Python ignores, and exec keeps */
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(wanted->arguments[0], (char *const *)wanted->arguments,
               (char *const *)wanted->environment);
        error = -errno;
    }
    if (write(failure_fd, &error, sizeof error) < 0)
        _exit(126);
    _exit(127);
}

/* Returns 0, or what the child said that was in its way: nothing comes from a pipe that exec
 * closed. */
static int failure_of(int fd) {
    int error = 0;
    ssize_t n;
    do
        n = read(fd, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    return n == sizeof error ? error : 0;
}

int process_start(const struct process_wanted *wanted) {
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) < 0)
        return -errno;
    long flags = (wanted->is_sibling ? CLONE_PARENT : 0) | SIGCHLD;
    long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0)
        become(wanted, failure[1]);
    int error = pid < 0 ? -errno : 0;
    close(failure[1]);
    if (pid > 0)
        error = failure_of(failure[0]);
    close(failure[0]);
    return error < 0 ? error : (int)pid;
}
