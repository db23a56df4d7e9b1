/* confine: what a worker gives up before its first packet, a part of fastun.h by its rules.
 *
 * Afterwards the process has no capability, a user of its own where it may have one, opens no file
 * and makes only the system calls of its role (csrc/confine/calls.h). What this kernel does not
 * have is left out, and said.
 */
#ifndef FASTUN_CONFINE_H
#define FASTUN_CONFINE_H

#include "fastun.h"

struct confine_wanted {
    unsigned role; /* an index of stats_role_name */
    uint32_t user; /* its number, and that of its group; 0: it stays as it is */
    uint32_t group;
    int parent_pid;      /* whose death ends this process; the setting is lost with the user */
    struct stats *stats; /* where a call that breaks the filter is left */
};

struct confined {
    uint32_t user;
    int landlock_abi; /* 0: there is no Landlock, and why is an errno */
    int landlock_errno;
    int has_filter;
    int filter_errno;
};

/* Confines this process, which has one thread. On failure it must end: a part may have been done.
 * -ESRCH when the parent is gone. */
int confine(const struct confine_wanted *wanted, struct confined *confined);

struct process_wanted {
    const char *const *arguments; /* the first is a path; NULL ends them, and the environment */
    const char *const *environment;
    int inherited_fd;  /* beside the standard ones, of which two are /dev/null */
    int log_fd;        /* its stderr; -1: ours */
    int is_sibling;    /* a child of our parent's */
    int has_no_rights; /* no ambient capabilities: but for root, none at all */
};

/* Starts a program in a process group of its own. Returns its process ID, or -errno; one that cannot
 * be executed after all has ended with 127. Any thread. */
int process_start(const struct process_wanted *wanted);

/* Has this process, which has one thread and forks the workers, give up all that they do not need
 * either, but for the filter and the like of each role. A user of 0 is kept. Returns 0 or -errno: it
 * must end then. */
int confine_template(uint32_t user, uint32_t group);

struct confine_gateway_wanted {
    uint32_t user; /* as above; 0: it stays as it is */
    uint32_t group;
    uint32_t workers_user; /* whose processes it may send signals, and nothing else */
    uint32_t workers_group;
    const char *const *readable; /* directories; no file elsewhere can be opened */
    size_t n_readable;
};

/* Has all threads of this process, the gateway, give up what they do not need. On failure it must
 * end: a part may have been done. Once, and from one thread. */
int confine_gateway(const struct confine_gateway_wanted *wanted, struct confined *confined);

struct confine_fleet_wanted {
    const char *const *readable; /* files, and directories with all below them */
    size_t n_readable;
    const char *const *writable; /* files, to be read as well; nothing is made or removed */
    size_t n_writable;
    const uint16_t *ports; /* of TCP, to connect to; no others where Landlock knows ports */
    size_t n_ports;
    int has_local_sockets; /* AF_UNIX, for a database on this host */
};

/* Has this process, which has one thread and speaks to the database of a fleet, give up what it does
 * not need. It keeps its user. On failure it must end: a part may have been done. */
int confine_fleet(const struct confine_fleet_wanted *wanted, struct confined *confined);

/* A service manager's filter may forbid capset(2). A process without root then gets rid of its
 * capabilities by executing a program anew, once the ambient ones are cleared, as they are by this.
 * Returns 1 where that is needed, 0 where not, or -errno. */
int confine_by_exec(void);

/* What confine() would find here, without doing any of it. */
void confine_probe(struct confined *found);

/* The system call by which the last worker of the role broke its filter, and forgets it; -1: it did
 * not. Any number can be there: a worker in an attacker's hands writes what it likes. */
int64_t stats_take_forbidden_call(struct stats *stats, unsigned role);

/* Sleeps for some milliseconds, by calls that a confined worker may make. */
void confined_rest(void);

/* ring_attach() for a confined worker: by mmap alone. That ring_create made it is not checked. */
struct ring *ring_attach_own(int fd, size_t size_bytes);

#endif
