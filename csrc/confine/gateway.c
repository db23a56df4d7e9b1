/* What the gateway gives up, in the only order that works:
 *
 *   locked memory      while raising the limit is still allowed
 *   bounding set       needs CAP_SETPCAP
 *   groups, user       needs CAP_SETGID and CAP_SETUID; libc does it in all threads
 *   capabilities, no_new_privs, Landlock: each thread for itself
 *   no core            the kernel forgets it when the user changes
 *   filter             the kernel puts all threads under it
 *
 * The real user stays that of the workers: whose real user it shares a process may send signals
 * (kill(2)), which the kernel does when the gateway dies (PR_SET_PDEATHSIG), and looking into another
 * (ptrace(2)) takes all three. Files and sockets go by the effective one. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "confine/gateway.h"
#include "confine/give_up.h"
#include "confine/landlock.h"
#include "confine/threads.h"

static int ruleset_fd; /* of the step below, which has no arguments; -1: there is no Landlock */

static int empty_bounding_set(void) {
    give_up_bounding_set();
    return 0;
}

static int give_up_in_thread(void) {
    int error = give_up_capabilities();
    if (error == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        error = -errno;
    if (error == 0 && ruleset_fd >= 0)
        error = landlock_enter(ruleset_fd);
    return error;
}

static int change_user(const struct confine_gateway_wanted *wanted) {
    if (wanted->user == 0)
        return 0;
    if (setgroups(0, NULL) < 0 ||
        setresgid(wanted->workers_group, wanted->group, wanted->group) < 0 ||
        setresuid(wanted->workers_user, wanted->user, wanted->user) < 0)
        return -errno;
    return 0;
}

int confine_gateway(const struct confine_gateway_wanted *wanted, struct confined *confined) {
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    (void)setrlimit(RLIMIT_MEMLOCK, &unlimited); /* for keys; where that may not be, as anyone */
    int version = landlock_readable(wanted->readable, wanted->n_readable, &ruleset_fd);
    confined->landlock_abi = version < 0 ? 0 : version;
    confined->landlock_errno = version < 0 ? -version : 0;
    int error = threads_each(empty_bounding_set);
    if (error == 0)
        error = change_user(wanted);
    if (error == 0)
        error = threads_each(give_up_in_thread);
    if (ruleset_fd >= 0)
        close(ruleset_fd);
    if (error == 0)
        error = process_hide_memory();
    if (error < 0)
        return error;
    error = gateway_filter_install();
    confined->user = geteuid();
    confined->has_filter = error == 0;
    confined->filter_errno = -error;
    return 0;
}
