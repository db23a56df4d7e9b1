/* Which memory is taken from a neighbour: of the size expected, and sealed so that it keeps it.
 * Else a mapping could end under a reader's feet. */
#define _GNU_SOURCE
#include "shared/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "check.h"
#include "shared/peer_table.h"
#include "shared/stats.h"

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

/* -- parts ------------------------------------------------------------------------------------- */

/* The kernel is asked, so that a sanitizer has no say in it. */
static bool can_write(void *at) {
    int fds[2];
    CHECK(pipe(fds) == 0 && write(fds[1], "x", 1) == 1);
    bool can = read(fds[0], at, 1) == 1;
    close(fds[0]);
    close(fds[1]);
    return can;
}

static bool is_open_to(const void *first, size_t length, bool writable) {
    char *at = (char *)(uintptr_t)first;
    return can_write(at) == writable && can_write(at + length - 1) == writable;
}

static void check_parts(struct stats *stats, struct peer_table *peers, unsigned writers) {
    for (unsigned role = 0; role < N_ROLES; role++)
        CHECK(is_open_to(&stats->parts[role].block, sizeof stats->parts[role].block,
                         (writers & 1u << role) != 0));
    CHECK(is_open_to(peers->by_tun_reader, sizeof peers->by_tun_reader,
                     (writers & 1u << ROLE_tun_reader) != 0));
    CHECK(is_open_to(peers->by_link_writer, sizeof peers->by_link_writer,
                     (writers & 1u << ROLE_link_writer) != 0));
    CHECK(is_open_to(peers->by_link_reader, sizeof peers->by_link_reader,
                     (writers & 1u << ROLE_link_reader) != 0));
}

static void each_writes_its_own_parts_of_figures_and_reads_the_others(void) {
    int stats_fd, peers_fd;
    struct stats *stats = stats_create(&stats_fd);
    struct peer_table *peers = peer_table_create(&peers_fd);
    check_parts(stats, peers, ~0u);
    peer_set(&peers->by_tun_reader[N_PEER_SLOTS - 1].sealed, 4711);
    for (unsigned writers = 0; writers < 1u << N_ROLES; writers++) {
        struct stats *its_stats = stats_attach(stats_fd, writers);
        struct peer_table *its_peers = peer_table_attach(peers_fd, writers);
        CHECK(its_stats != NULL && its_peers != NULL);
        check_parts(its_stats, its_peers, writers);
        CHECK_EQUAL(its_peers->by_tun_reader[N_PEER_SLOTS - 1].sealed, 4711);
        stats_detach(its_stats);
        peer_table_detach(its_peers);
    }
    stats_detach(stats);
    peer_table_detach(peers);
    close(stats_fd);
    close(peers_fd);
}

/* Parts take no more memory than one table did: 256 bytes a peer. */
static void a_part_a_writer_costs_no_memory_a_peer(void) {
    CHECK_EQUAL(sizeof(struct peer_table), 256 * N_PEER_SLOTS);
}

int main(void) {
    RUN(a_memory_that_could_shrink_or_grow_is_refused);
    RUN(a_memory_of_another_size_is_refused);
    RUN(a_file_without_seals_is_refused);
    RUN(each_writes_its_own_parts_of_figures_and_reads_the_others);
    RUN(a_part_a_writer_costs_no_memory_a_peer);
    return EXIT_SUCCESS;
}
