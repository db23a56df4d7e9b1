/* setresuid() of libc does this as well, with a signal of its own that it keeps to itself. Threads
 * that wait are interrupted, and go on: SA_RESTART, and Python repeats what it does not cover. */
#define _GNU_SOURCE
#include "confine/threads.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 512, WAIT_LIMIT_MS = 2000 };

static struct {
    int (*step)(void);
    atomic_int error;
    atomic_int n_done;
    atomic_int done[THREADS_MAX]; /* threads, in the order in which they did it */
} asked;

struct known {
    pid_t threads[THREADS_MAX];
    int n;
};

static void do_step(void) {
    int error = asked.step();
    int none = 0;
    if (error < 0)
        atomic_compare_exchange_strong(&asked.error, &none, error);
    int place = atomic_fetch_add(&asked.n_done, 1);
    if (place < THREADS_MAX)
        atomic_store(&asked.done[place], (int)syscall(SYS_gettid));
}

static void on_signal(int number) {
    (void)number;
    int before = errno;
    do_step();
    errno = before;
}

static bool is_known(const struct known *known, pid_t thread) {
    for (int i = 0; i < known->n; i++)
        if (known->threads[i] == thread)
            return true;
    return false;
}

static bool has_done(pid_t thread) {
    int n = atomic_load(&asked.n_done);
    for (int i = 0; i < n && i < THREADS_MAX; i++)
        if (atomic_load(&asked.done[i]) == thread)
            return true;
    return false;
}

static bool has_ended(pid_t thread) {
    return syscall(SYS_tgkill, getpid(), thread, 0) < 0 && errno == ESRCH;
}

/* Returns whether there were any, or -errno. */
static int ask_new(struct known *known, DIR *tasks) {
    int n_before = known->n;
    rewinddir(tasks);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        pid_t thread = atoi(entry->d_name); /* 0: the entries of any directory */
        if (thread == 0 || is_known(known, thread))
            continue;
        if (known->n == THREADS_MAX)
            return -E2BIG;
        known->threads[known->n++] = thread;
        if (syscall(SYS_tgkill, getpid(), thread, SIGRTMAX) < 0 && errno != ESRCH)
            return -errno;
    }
    return known->n > n_before;
}

/* One may end before it looks at the signal. */
static int wait_for(const struct known *known) {
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0, waited_ms = 0; i < known->n; waited_ms++) {
        while (i < known->n && (has_done(known->threads[i]) || has_ended(known->threads[i])))
            i++;
        if (i < known->n && waited_ms == WAIT_LIMIT_MS)
            return -ETIMEDOUT;
        if (i < known->n)
            nanosleep(&moment, NULL);
    }
    return 0;
}

/* Until a look finds no other thread: one may have been started by one that had not done it yet. */
static int ask_all(DIR *tasks) {
    struct known known = {.threads = {(pid_t)syscall(SYS_gettid)}, .n = 1};
    int error;
    do_step();
    while ((error = ask_new(&known, tasks)) > 0)
        if ((error = wait_for(&known)) < 0)
            return error;
    return error < 0 ? error : atomic_load(&asked.error);
}

int threads_each(int (*step)(void)) {
    struct sigaction before, action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return -errno;
    asked.step = step;
    atomic_store(&asked.n_done, 0);
    atomic_store(&asked.error, 0);
    int error = sigaction(SIGRTMAX, &action, &before) < 0 ? -errno : 0;
    if (error == 0) {
        error = ask_all(tasks);
        /* One that did not answer may yet get its signal, whose default is the end of the process. */
        if (error != -ETIMEDOUT)
            (void)sigaction(SIGRTMAX, &before, NULL);
    }
    closedir(tasks);
    return error;
}
