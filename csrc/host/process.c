#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
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
