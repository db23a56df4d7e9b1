/* A ruleset that handles everything and has no rule (Documentation/userspace-api/landlock.rst).
 * Descriptors that are open already, and those that the gateway sends, keep what they can. */
#define _GNU_SOURCE
#include "confine/landlock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h, where the libc's is older than the kernel. All processors have these numbers. */
enum { CREATE_RULESET = 444, RESTRICT_SELF = 446, ASK_VERSION = 1 };

struct ruleset {
    uint64_t files, network, scopes;
};

/* How many rights a version knows, each of them a bit. A kernel refuses those that it does not. */
struct rights {
    unsigned n_files, n_network, n_scopes;
};

static struct rights rights_of(int version) {
    static const unsigned n_files[] = {0, 13, 14, 15, 15, 16}; /* refer, truncate, ioctl_dev */
    int last = (int)(sizeof n_files / sizeof *n_files) - 1;
    return (struct rights){
        .n_files = n_files[version < last ? version : last],
        .n_network = version >= 4 ? 2 : 0,
        .n_scopes = version >= 6 ? 2 : 0,
    };
}

static size_t size_of(int version) {
    if (version >= 6)
        return sizeof(struct ruleset);
    return version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
}

int landlock_version(void) {
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    return version < 0 ? -errno : (int)version;
}

int landlock_forbid_all(void) {
    int version = landlock_version();
    if (version <= 0)
        return version < 0 ? version : -EOPNOTSUPP;
    struct rights rights = rights_of(version);
    struct ruleset all = {(1u << rights.n_files) - 1, (1u << rights.n_network) - 1,
                          (1u << rights.n_scopes) - 1};
    int fd = (int)syscall(CREATE_RULESET, &all, size_of(version), 0);
    if (fd < 0)
        return -errno;
    int error = syscall(RESTRICT_SELF, fd, 0) < 0 ? -errno : version;
    close(fd);
    return error;
}
