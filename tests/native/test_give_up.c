/* Giving up capabilities, also where a filter of the start forbids capset(2). */
#define _GNU_SOURCE
#include "confine.h"
#include "confine/give_up.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { USER = 65534, NET_ADMIN = 1 << CAP_NET_ADMIN };

typedef struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

static int set_capabilities(uint32_t held, uint32_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    sets wanted = {{.effective = held, .permitted = held, .inheritable = inheritable}, {0}};
    return (int)syscall(SYS_capset, &header, wanted);
}

static bool holds_any(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    sets now = {0};
    return syscall(SYS_capget, &header, now) < 0 || now[0].permitted || now[1].permitted;
}

static bool is_ambient(void) {
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_ADMIN, 0, 0) == 1;
}

/* As systemd starts a service with AmbientCapabilities=CAP_NET_ADMIN and a user. */
static bool become_service(void) {
    return prctl(PR_SET_KEEPCAPS, 1) == 0 && setresgid(USER, USER, USER) == 0 &&
           setresuid(USER, USER, USER) == 0 && set_capabilities(NET_ADMIN, NET_ADMIN) == 0 &&
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) == 0;
}

/* As SystemCallFilter=~@privileged does. */
static bool forbid_capset(void) {
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_capset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof steps / sizeof *steps, .filter = steps};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* Runs it in a child, which must find that all is so. */
static bool is_so_in_a_child(bool (*body)(void)) {
    pid_t child = fork();
    if (child == 0)
        syscall(SYS_exit_group, body() ? 0 : 1); /* past AddressSanitizer's end */
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool root_needs_no_exec(void) {
    return confine_by_exec() == 0 && holds_any() && give_up_capabilities() == 0 && !holds_any();
}

static bool a_service_needs_none(void) {
    return become_service() && confine_by_exec() == 0 && is_ambient() &&
           give_up_capabilities() == 0 && !holds_any() && !is_ambient();
}

static bool a_service_whose_filter_forbids_capset_needs_one(void) {
    return become_service() && forbid_capset() && confine_by_exec() == 1 && !is_ambient() &&
           holds_any() && give_up_capabilities() == -EPERM;
}

static bool one_that_only_inherits_has_nothing_to_give_up(void) {
    return become_service() && set_capabilities(0, NET_ADMIN) == 0 && forbid_capset() &&
           confine_by_exec() == 0 && give_up_capabilities() == 0;
}

static void capabilities_are_given_up_by_capset_where_that_may_be_called(void) {
    CHECK(is_so_in_a_child(root_needs_no_exec));
    CHECK(is_so_in_a_child(a_service_needs_none));
}

static void where_it_may_not_an_exec_is_needed_and_prepared(void) {
    CHECK(is_so_in_a_child(a_service_whose_filter_forbids_capset_needs_one));
    CHECK(is_so_in_a_child(one_that_only_inherits_has_nothing_to_give_up));
}

int main(void) {
    if (geteuid() != 0)
        return EXIT_SKIP; /* needs root */
    RUN(capabilities_are_given_up_by_capset_where_that_may_be_called);
    RUN(where_it_may_not_an_exec_is_needed_and_prepared);
    return EXIT_SUCCESS;
}
