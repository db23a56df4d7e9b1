/* What each thread is to do by itself is done by all of them, also while others start. */
#define _GNU_SOURCE
#include "confine/threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "confine/gateway.h"

enum { N_WAITING = 8, N_STARTERS = 2 };

static _Thread_local int n_here;
static atomic_int n_steps, n_missed;
static atomic_bool is_over, is_done;
static int pipe_fds[2];

static int count(void) {
    n_here++;
    atomic_fetch_add(&n_steps, 1);
    return 0;
}

static int fail(void) {
    return -EPERM;
}

static void *wait_in_kernel(void *unused) {
    char byte;
    while (read(pipe_fds[0], &byte, 1) < 0 && errno == EINTR)
        ;
    if (n_here != 1)
        atomic_fetch_add(&n_missed, 1);
    return unused;
}

/* One that was started after the last look has done it, or was started by one that had. */
static void *be_short(void *parent_had) {
    if ((uintptr_t)parent_had == 0 && atomic_load(&is_done) && n_here == 0)
        atomic_fetch_add(&n_missed, 1);
    return NULL;
}

static void *start_others(void *unused) {
    while (!atomic_load(&is_over)) {
        pthread_t other;
        if (pthread_create(&other, NULL, be_short, (void *)(uintptr_t)n_here) == 0)
            pthread_join(other, NULL);
        usleep(500);
    }
    return unused;
}

static void every_thread_does_it_once(void) {
    pthread_t waiting[N_WAITING], starters[N_STARTERS];
    CHECK(pipe(pipe_fds) == 0);
    for (int i = 0; i < N_WAITING; i++)
        CHECK(pthread_create(&waiting[i], NULL, wait_in_kernel, NULL) == 0);
    for (int i = 0; i < N_STARTERS; i++)
        CHECK(pthread_create(&starters[i], NULL, start_others, NULL) == 0);
    CHECK_EQUAL(threads_each(count), 0);
    atomic_store(&is_done, true);
    CHECK_EQUAL(n_here, 1);
    CHECK(atomic_load(&n_steps) >= 1 + N_WAITING + N_STARTERS);
    atomic_store(&is_over, true);
    for (int i = 0; i < N_WAITING; i++)
        CHECK(write(pipe_fds[1], "x", 1) == 1);
    for (int i = 0; i < N_WAITING; i++)
        pthread_join(waiting[i], NULL);
    for (int i = 0; i < N_STARTERS; i++)
        pthread_join(starters[i], NULL);
    CHECK_EQUAL(atomic_load(&n_missed), 0);
}

static void the_first_error_is_returned(void) {
    CHECK_EQUAL(threads_each(fail), -EPERM);
}

/* Under the filter: what is refused, by its errno, and what is not. */
static int tried(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || gateway_filter_install() < 0)
        return 1;
    const struct {
        long call, first;
        int error;
    } calls[] = {
        {SYS_execve, 0, EPERM},
        {SYS_ptrace, 0, EPERM},
        {SYS_setresuid, 0, EPERM},
        {SYS_unshare, 0, EPERM},
        {SYS_bpf, 0, EPERM},
        {SYS_socket, 1, EAFNOSUPPORT},
        {SYS_socket, 17, EAFNOSUPPORT},
        {SYS_clone, 0x10000000, EPERM},
        {SYS_clone3, 0, ENOSYS},
        {SYS_getppid, 0, 0},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        syscall(calls[i].call, calls[i].first, 0, 0, 0, 0, 0);
        if (errno != calls[i].error)
            return 10 + (int)i;
    }
    return syscall(SYS_socket, 2, 1, 0) >= 0 && syscall(SYS_socket, 16, 3, 0) >= 0 ? 0 : 2;
}

static void the_gateways_filter_refuses_what_it_has_no_use_for(void) {
    pid_t child = fork();
    if (child == 0)
        syscall(SYS_exit_group, tried());
    int status = 0;
    waitpid(child, &status, 0);
    CHECK_EQUAL(status, 0);
}

int main(void) {
    RUN(every_thread_does_it_once);
    RUN(the_first_error_is_returned);
    RUN(the_gateways_filter_refuses_what_it_has_no_use_for);
    return EXIT_SUCCESS;
}
