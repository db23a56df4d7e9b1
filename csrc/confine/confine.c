/* What a worker gives up, in the only order that works:
 *
 *   limits             while raising one is still allowed
 *   bounding set       needs CAP_SETPCAP
 *   groups, user       needs CAP_SETGID and CAP_SETUID
 *   capabilities
 *   no core, and the parent's death: the kernel forgets both when the user changes
 *   no_new_privs       needed by the next two
 *   Landlock           needs system calls of its own
 *   filter             the last that can be done
 */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/filter.h"
#include "confine/give_up.h"
#include "confine/landlock.h"
#include "confine/template.h"
#include "shared/pace.h"
#include "shared/peer_table.h"

/* Of a worker without links: stderr, channel, device, two eventfds, epoll, and in passing those that
 * a message brings. A link is one more, and so is a socket of UDP and the one that replaces it. */
enum { FILES = 32, FILES_OF_LINKS = FILES + N_PEER_SLOTS + 2 * N_SOCKETS };

static int lower(int resource, rlim_t most) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return -errno;
    limit.rlim_max = limit.rlim_max < most ? limit.rlim_max : most;
    limit.rlim_cur = limit.rlim_cur < most ? limit.rlim_cur : most;
    return setrlimit(resource, &limit) < 0 ? -errno : 0;
}

/* Beyond what it has mapped by now. Queues reserve 4 MiB (LINK_QUEUE_ROOM) a peer, of which little is
 * used, and a reader may have two: one of packets that wait for a session, one for a rate limit. What
 * is used of it the gateway watches (fastun/lane/watch.py). */
static const rlim_t more_address_space = (rlim_t)2 * N_PEER_SLOTS * (4 << 20) + ((rlim_t)2 << 30),
                    more_without_links = (rlim_t)256 << 20; /* captures, and libc */

/* RLIM_INFINITY where there is no /proc. */
static rlim_t address_space_max(rlim_t more) {
    unsigned long n_pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    bool is_known = statm != NULL && fscanf(statm, "%lu", &n_pages) == 1;
    if (statm != NULL)
        fclose(statm);
    return is_known ? (rlim_t)n_pages * (rlim_t)sysconf(_SC_PAGESIZE) + more : RLIM_INFINITY;
}

static int set_limits(unsigned role) {
    bool has_links = role != ROLE_tun_writer; /* the tun-reader's are for the link-writer's steps */
    const struct {
        int resource;
        rlim_t most;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_FSIZE, 0},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_NPROC, 0},
        {RLIMIT_NOFILE, has_links ? FILES_OF_LINKS : FILES},
        {RLIMIT_AS, address_space_max(has_links ? more_address_space : more_without_links)},
    };
    int error = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits && error == 0; i++)
        error = lower(limits[i].resource, limits[i].most);
    /* Keys stay locked without CAP_IPC_LOCK. Where that may not be, they are as anyone's. */
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    (void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
    return error;
}

static int change_user(uid_t user, gid_t group) {
    if (user == 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 ||
        setresuid(user, user, user) < 0)
        return -errno;
    return 0;
}

/* What every kernel has that fastun runs on. */
static int give_up_privileges(const struct confine_wanted *wanted) {
    int error = set_limits(wanted->role);
    if (error < 0)
        return error;
    give_up_bounding_set();
    error = change_user(wanted->user, wanted->group);
    if (error == 0)
        error = give_up_capabilities();
    if (error == 0)
        error = process_hide_memory();
    if (error == 0)
        error = process_die_with_parent(wanted->parent_pid);
    if (error == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        error = -errno;
    return error;
}

static void set_landlock(struct confined *confined, int version) {
    confined->landlock_abi = version < 0 ? 0 : version;
    confined->landlock_errno = version < 0 ? -version : 0;
}

static void set_filter(struct confined *confined, int error) {
    confined->has_filter = error == 0;
    confined->filter_errno = -error;
}

int confine_template(uint32_t user, uint32_t group) {
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    (void)setrlimit(RLIMIT_MEMLOCK, &unlimited); /* which a worker could not raise any more */
    give_up_bounding_set();
    int error = change_user(user, group);
    if (error == 0)
        error = give_up_capabilities();
    if (error == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        error = -errno;
    if (error == 0)
        (void)
            template_filter_install(); /* what lacks filters says so when a worker puts on its own */
    return error;
}

int confine(const struct confine_wanted *wanted, struct confined *confined) {
    if (wanted->role >= N_ROLES)
        return -EINVAL;
    enum stats_role role = (enum stats_role)wanted->role;
    int error = give_up_privileges(wanted);
    if (error < 0)
        return error;
    confined->user = geteuid();
    set_landlock(confined, landlock_forbid_all());
    set_filter(confined, filter_install(role, &wanted->stats->parts[role].block));
    return 0;
}

void confined_rest(void) {
    pace_rest();
}

void confine_probe(struct confined *found) {
    const uint32_t trap = SECCOMP_RET_TRAP;
    found->user = geteuid();
    set_landlock(found, landlock_version());
    set_filter(found, syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap) < 0 ? -errno : 0);
}
