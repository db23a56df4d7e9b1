/* What the process of a fleet gives up. It keeps its user, whose are the passfiles, certificates and the
 * copy of the directory that it needs, so all of the rest of that user's is closed to it:
 *
 *   bounding set       needs CAP_SETPCAP
 *   capabilities, no core, no_new_privs
 *   Landlock           files by name, TCP ports to connect to, signals
 *   filter             what Landlock does not know: modes and owners of files, other processes, sockets
 *                      of other kinds, local ones where the database is not reached by one */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "confine.h"
#include "confine/fleet.h"
#include "confine/give_up.h"
#include "confine/landlock.h"

int confine_fleet(const struct confine_fleet_wanted *wanted, struct confined *confined) {
    struct landlock_files files = {wanted->readable, wanted->n_readable, wanted->writable,
                                   wanted->n_writable};
    int ruleset_fd;
    int version = landlock_named(&files, wanted->ports, wanted->n_ports, &ruleset_fd);
    confined->landlock_abi = version < 0 ? 0 : version;
    confined->landlock_errno = version < 0 ? -version : 0;
    give_up_bounding_set();
    int error = give_up_capabilities();
    if (error == 0)
        error = process_hide_memory();
    if (error == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        error = -errno;
    if (error == 0 && ruleset_fd >= 0)
        error = landlock_enter(ruleset_fd);
    if (ruleset_fd >= 0)
        close(ruleset_fd);
    if (error < 0)
        return error;
    error = fleet_filter_install(wanted->has_local_sockets);
    confined->user = geteuid();
    confined->has_filter = error == 0;
    confined->filter_errno = -error;
    return 0;
}
