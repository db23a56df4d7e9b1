/* A program, started from a process with threads: between clone and execve there are only system
 * calls. Unlike posix_spawn() it can be made our parent's child (CLONE_PARENT). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"

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

static void become(const struct process_wanted *wanted) {
    sigset_t none;
    sigemptyset(&none);
    if (move_descriptors(wanted) == 0 && setpgid(0, 0) == 0 && chdir("/") == 0) {
        if (wanted->has_no_rights)
            (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* Linux 4.3 */
        signal(SIGPIPE, SIG_DFL); /* which Python ignores, and exec keeps */
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(wanted->arguments[0], (char *const *)wanted->arguments,
               (char *const *)wanted->environment);
    }
    _exit(127);
}

int process_start(const struct process_wanted *wanted) {
    long flags = (wanted->is_sibling ? CLONE_PARENT : 0) | SIGCHLD;
    if (access(wanted->arguments[0], X_OK) < 0)
        return -errno;
    long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0)
        become(wanted);
    return pid < 0 ? -errno : (int)pid;
}
