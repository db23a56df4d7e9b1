/* killed: workers in processes of their own, to be killed at any moment. */
#ifndef KILLED_H
#define KILLED_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fastun.h"

/* Forks a process that is what `be(argument)` makes of it, and ends as failed if that returns. */
static inline pid_t killed_spawn(void (*be)(int argument), int argument) {
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_EQUAL(process_die_with_parent(parent), 0);
        be(argument);
        _exit(EXIT_FAILURE);
    }
    return pid;
}

static inline void killed_reap(pid_t pid) {
    int status;
    CHECK_EQUAL(kill(pid, SIGKILL), 0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status)); /* else it has failed a CHECK */
}

#endif
