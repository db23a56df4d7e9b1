#define _GNU_SOURCE
#include "confine.h"
#include "confine/give_up.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void give_up_bounding_set(void) {
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability);
}

typedef struct __user_cap_data_struct capability_sets[_LINUX_CAPABILITY_U32S_3];

static int capabilities_call(long number, capability_sets sets) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(number, &header, sets) < 0 ? -errno : 0;
}

/* What is only inheritable is worth nothing under no_new_privs. */
static bool has_none(const capability_sets sets) {
    return !(sets[0].permitted | sets[0].effective | sets[1].permitted | sets[1].effective);
}

int give_up_capabilities(void) {
    capability_sets none = {0}, now = {0};
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* Linux 4.3 */
    int error = capabilities_call(SYS_capset, none);
    if (error < 0 && capabilities_call(SYS_capget, now) == 0 && has_none(now))
        return 0;
    return error;
}

int confine_by_exec(void) {
    capability_sets now = {0};
    int error = capabilities_call(SYS_capget, now);
    bool is_root = geteuid() == 0;
    if (error < 0 || is_root || has_none(now) || capabilities_call(SYS_capset, now) == 0)
        return error;
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ? -errno : 1;
}
