/* check: a test is a function named as its claim; the first CHECK that fails ends the process with
 * 1. 77 says that this machine lacks what the test needs. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SKIP = 77 };

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, 0, 0))
#define CHECK_EQUAL(actual, expected)                                                              \
    check_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
/* ONLY=name in the environment runs one claim of a program. */
#define RUN(test)                                                                                  \
    do {                                                                                           \
        check_running = #test;                                                                     \
        if (getenv("ONLY") != NULL && strcmp(getenv("ONLY"), #test) != 0)                          \
            break;                                                                                 \
        test();                                                                                    \
        printf("  ok    %s\n", #test);                                                             \
        fflush(stdout); /* before a sanitizer ends the process */                                  \
    } while (0)

static const char *check_running = "";

/* _exit: other threads may be at work, and a failure must not wait for them. */
static _Noreturn void check_failed(const char *file, int line, const char *claim, long long actual,
                                   long long expected) {
    printf("  FAIL  %s\n        %s:%d: %s", check_running, file, line, claim);
    if (actual != expected)
        printf(" is %lld, not %lld", actual, expected);
    printf("\n");
    fflush(stdout);
    _exit(EXIT_FAILURE);
}

static inline void check_equal(const char *file, int line, const char *claim, long long actual,
                               long long expected) {
    if (actual != expected)
        check_failed(file, line, claim, actual, expected);
}

static inline bool is_zero(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

#endif
