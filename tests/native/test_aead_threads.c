/* The libraries are prepared once, whichever threads begin at the same time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "session/aead.h"

enum { ROUNDS = 30, THREADS = 8 };

static pthread_barrier_t start;

static void *init_with_the_others(void *failed) {
    pthread_barrier_wait(&start);
    if (aead_init() != 0)
        __atomic_store_n((int *)failed, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* In a process of its own: it is once a process. */
static int fails_at_once(void) {
    pthread_t threads[THREADS];
    int failed = 0;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, init_with_the_others, &failed);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return failed;
}

static void threads_that_begin_at_once_find_it_prepared(void) {
    for (int round = 0; round < ROUNDS; round++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            _exit(fails_at_once());
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
}

int main(void) {
    RUN(threads_that_begin_at_once_find_it_prepared);
    return EXIT_SUCCESS;
}
