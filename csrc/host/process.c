#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fastun.h"

int process_hide_memory(void) {
    /* No core file, nor a pipe to a core handler; only root may trace or read us. */
    return prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0;
}

int process_die_with_parent(int parent_pid) {
    /* The kernel forgets this setting at a change of credentials, so it comes after any. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -errno;
    /* The parent may have died before the call; then no signal will ever come. */
    return getppid() == parent_pid ? 0 : -ESRCH;
}

void process_trim_memory(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

int process_fork_sibling(void) {
    /* fork(), but for CLONE_PARENT, which glibc does not offer. What glibc does besides is for
     * processes with threads: the handlers of pthread_atfork, and the thread's own ID, which only
     * robust and recursive mutexes look at. The order of the arguments differs between processors,
     * and all but the flags are 0. */
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    return pid < 0 ? -errno : (int)pid;
}
