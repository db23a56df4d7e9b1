/* Which memory is taken from a neighbour: of the size expected, and sealed so that it keeps it.
 * Else a mapping could end under a reader's feet. */
#define _GNU_SOURCE
#include "shared/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "check.h"

enum { SIZE = 1 << 16 };

static int open_with_seals(int seals) {
    int fd = memfd_create("neighbour", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, SIZE), 0);
    CHECK_EQUAL(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void check_refused(int fd, size_t size, int error) {
    CHECK(shared_memory_attach(fd, size) == NULL);
    CHECK_EQUAL(errno, error);
}

static void a_memory_that_could_shrink_or_grow_is_refused(void) {
    const int too_few[] = {0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SHRINK};
    for (size_t i = 0; i < sizeof too_few / sizeof *too_few; i++) {
        int fd = open_with_seals(too_few[i]);
        check_refused(fd, SIZE, EINVAL);
        close(fd);
    }
    int fd = open_with_seals(F_SEAL_SHRINK | F_SEAL_GROW);
    void *memory = shared_memory_attach(fd, SIZE);
    CHECK(memory != NULL);
    munmap(memory, SIZE);
    close(fd);
}

static void a_memory_of_another_size_is_refused(void) {
    int fd = open_with_seals(F_SEAL_SHRINK | F_SEAL_GROW);
    check_refused(fd, SIZE - 1, EINVAL);
    check_refused(fd, SIZE + 1, EINVAL);
    check_refused(fd, SIZE * 2, EINVAL);
    close(fd);
}

static void a_file_without_seals_is_refused(void) {
    FILE *file = tmpfile();
    CHECK(file != NULL);
    CHECK_EQUAL(ftruncate(fileno(file), SIZE), 0);
    CHECK(shared_memory_attach(fileno(file), SIZE) == NULL);
    fclose(file);
}

int main(void) {
    RUN(a_memory_that_could_shrink_or_grow_is_refused);
    RUN(a_memory_of_another_size_is_refused);
    RUN(a_file_without_seals_is_refused);
    return EXIT_SUCCESS;
}
