/* A ruleset that handles everything and has no rule (Documentation/userspace-api/landlock.rst).
 * Descriptors that are open already, and those that the gateway sends, keep what they can. */
#define _GNU_SOURCE
#include "confine/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h, where the libc's is older than the kernel. All processors have these numbers. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446, ASK_VERSION = 1 };

enum { PATH_BENEATH = 1, NET_PORT = 2 };
enum { WRITE_FILE = 1u << 1, READ_FILE = 1u << 2, READ_DIR = 1u << 3, TRUNCATE = 1u << 14 };
enum { CONNECT_TCP = 1u << 1 };

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

/* Returns the version, or -errno. Of network and scopes so many rights are handled at most. */
static int make_ruleset(unsigned n_network, unsigned n_scopes, int *fd) {
    int version = landlock_version();
    if (version <= 0)
        return version < 0 ? version : -EOPNOTSUPP;
    struct rights rights = rights_of(version);
    n_network = n_network < rights.n_network ? n_network : rights.n_network;
    n_scopes = n_scopes < rights.n_scopes ? n_scopes : rights.n_scopes;
    struct ruleset handled = {(1u << rights.n_files) - 1, (1u << n_network) - 1,
                              (1u << n_scopes) - 1};
    *fd = (int)syscall(CREATE_RULESET, &handled, size_of(version), 0);
    return *fd < 0 ? -errno : version;
}

int landlock_enter(int fd) {
    return syscall(RESTRICT_SELF, fd, 0) < 0 ? -errno : 0;
}

int landlock_forbid_all(void) {
    int fd = -1, version = make_ruleset(2, 2, &fd);
    if (version < 0)
        return version;
    int error = landlock_enter(fd);
    close(fd);
    return error < 0 ? error : version;
}

/* linux/landlock.h, packed there. */
struct __attribute__((packed)) rule {
    uint64_t allowed;
    int32_t path;
};

struct port_rule {
    uint64_t allowed, port;
};

/* One descriptor at a time: a process may have few. What is not there has no rule. A file takes no
 * right of directories. */
static int add_rule(int ruleset_fd, const char *path, int flags, uint64_t rights) {
    int opened = open(path, flags | O_PATH | O_CLOEXEC);
    if (opened < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
    struct stat found;
    if (fstat(opened, &found) < 0 || !S_ISDIR(found.st_mode))
        rights &= ~(uint64_t)READ_DIR;
    struct rule rule = {rights, opened};
    int error = syscall(ADD_RULE, ruleset_fd, PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
    close(opened);
    return error;
}

static int add_rules(int ruleset_fd, const char *const *paths, size_t n, uint64_t rights) {
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++)
        error = add_rule(ruleset_fd, paths[i], 0, rights);
    return error;
}

static int add_ports(int ruleset_fd, const uint16_t *ports, size_t n) {
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++) {
        struct port_rule rule = {CONNECT_TCP, ports[i]};
        error = syscall(ADD_RULE, ruleset_fd, NET_PORT, &rule, 0) < 0 ? -errno : 0;
    }
    return error;
}

int landlock_named(const struct landlock_files *files, const uint16_t *ports, size_t n_ports,
                   int *fd) {
    int version = make_ruleset(2, 2, fd);
    if (version < 0) {
        *fd = -1;
        return version;
    }
    uint64_t written = READ_FILE | WRITE_FILE | (version >= 3 ? TRUNCATE : 0);
    int error = add_rules(*fd, files->readable, files->n_readable, READ_FILE | READ_DIR);
    if (error == 0)
        error = add_rules(*fd, files->writable, files->n_writable, written);
    if (error == 0 && version >= 4)
        error = add_ports(*fd, ports, n_ports);
    if (error == 0)
        return version;
    close(*fd);
    *fd = -1;
    return error;
}

int landlock_readable(const char *const *directories, size_t n, int *fd) {
    /* The first right of the network is binding, the first scope abstract sockets. The second are
     * connecting, and signals: the gateway needs both. */
    int version = make_ruleset(1, 1, fd);
    for (size_t i = 0; i < n && version > 0; i++) {
        int error = add_rule(*fd, directories[i], O_DIRECTORY, READ_FILE | READ_DIR);
        if (error < 0) {
            version = error;
            close(*fd);
        }
    }
    if (version < 0)
        *fd = -1;
    return version;
}
