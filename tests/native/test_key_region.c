/* The region of session keys: against a model, from another process, and with a writer that dies in
 * the middle. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "random.h"
#include "session/key_region.h"
#include "session/session_key.h"
#include "shared/stats.h"

enum { N_STEPS = 4000, N_MODELLED = 64, N_KILLS = 60 };

/* -- a descriptor to another process ---------------------------------------------------------------- */

union fd_control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static void fds_send(int to, int fd) {
    union fd_control control = {.header = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec byte = {"", 1};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    CHECK(sendmsg(to, &message, 0) == 1);
}

static int fds_receive(int from) {
    union fd_control control;
    char content;
    int fd;
    struct iovec byte = {&content, 1};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    CHECK(recvmsg(from, &message, 0) == 1 && message.msg_controllen > 0);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

/* -- keys ------------------------------------------------------------------------------------------- */

static struct key_area *attach(struct key_region *region, unsigned role) {
    struct key_area *area = key_area_attach(key_region_fd(region, role));
    CHECK(area != NULL);
    return area;
}

static void key_of(uint8_t key[AEAD_KEY_SIZE], uint64_t number, unsigned direction) {
    for (unsigned i = 0; i < AEAD_KEY_SIZE; i++)
        key[i] = (uint8_t)(number * 31 + direction * 7 + i + 1);
}

static void put(struct key_region *region, uint64_t number, struct key_name *name) {
    uint8_t send[AEAD_KEY_SIZE], receive[AEAD_KEY_SIZE];
    key_of(send, number, 0);
    key_of(receive, number, 1);
    CHECK_EQUAL(key_region_put(region, send, receive, name), 0);
}

static bool has_key(const struct key_area *area, const struct key_name *name, uint64_t number,
                    unsigned direction) {
    uint8_t expected[AEAD_KEY_SIZE], found[AEAD_KEY_SIZE];
    key_of(expected, number, direction);
    return key_area_read(area, name, found) == 0 && memcmp(expected, found, sizeof found) == 0;
}

static bool is_gone(const struct key_area *area, const struct key_name *name) {
    uint8_t found[AEAD_KEY_SIZE];
    return key_area_read(area, name, found) == -ENOENT;
}

/* -- what is put is found, and what is wiped is not ------------------------------------------------- */

static void check_against_model(int wants_secret) {
    struct key_region *region = key_region_create(wants_secret);
    CHECK(region != NULL);
    struct key_area *sending = attach(region, ROLE_tun_reader);
    struct key_area *receiving = attach(region, ROLE_link_reader);
    struct key_name names[N_MODELLED] = {0}, wiped = {0};
    struct random random = {4711};
    unsigned n_used = 0;
    for (uint64_t step = 1; step <= N_STEPS; step++) {
        unsigned i = (unsigned)random_below(&random, N_MODELLED);
        if (names[i].generation == 0) {
            put(region, i, &names[i]);
            n_used++;
        } else {
            wiped = names[i];
            key_region_wipe(region, &wiped);
            names[i] = (struct key_name){0};
            n_used--;
        }
        key_region_wipe(region, &wiped); /* out of date: must not touch what is there by now */
        CHECK_EQUAL(key_region_n_used(region), n_used);
        CHECK(is_gone(sending, &wiped) && is_gone(receiving, &wiped));
        for (i = 0; i < N_MODELLED; i++)
            CHECK(names[i].generation == 0 ||
                  (has_key(sending, &names[i], i, 0) && has_key(receiving, &names[i], i, 1)));
    }
    key_area_detach(sending);
    key_area_detach(receiving);
    key_region_free(region);
}

static void test_what_is_put_is_found_until_it_is_wiped(void) {
    check_against_model(0);
    check_against_model(1);
}

static void test_a_wiped_key_leaves_no_byte(void) {
    static const struct key_entry empty;
    struct key_region *region = key_region_create(0);
    struct key_area *areas[] = {attach(region, ROLE_tun_reader), attach(region, ROLE_link_reader)};
    struct key_name name;
    put(region, 1, &name);
    key_region_wipe(region, &name);
    for (int i = 0; i < 2; i++)
        CHECK(memcmp(&areas[i]->entries[name.place], &empty, sizeof empty) == 0);
    put(region, 2, &name);
    key_region_free(region); /* what is left is wiped at the end */
    for (int i = 0; i < 2; i++) {
        CHECK(memcmp(&areas[i]->entries[name.place], &empty, sizeof empty) == 0);
        key_area_detach(areas[i]);
    }
}

static void test_it_is_full_some_time_and_says_so(void) {
    static const uint8_t key[AEAD_KEY_SIZE] = {1};
    static struct key_name names[N_KEY_PLACES];
    struct key_region *region = key_region_create(0);
    struct key_name name;
    for (unsigned i = 0; i < key_region_n_places(); i++)
        CHECK_EQUAL(key_region_put(region, key, key, &names[i]), 0);
    CHECK_EQUAL(key_region_put(region, key, key, &name), -ENOSPC);
    key_region_wipe(region, &names[17]);
    CHECK_EQUAL(key_region_put(region, key, key, &name), 0);
    CHECK_EQUAL(name.place, names[17].place);
    CHECK(name.generation > names[N_KEY_PLACES - 1].generation);
    key_region_free(region);
}

static void test_names_that_cannot_be_find_nothing(void) {
    struct key_region *region = key_region_create(0);
    struct key_area *area = attach(region, ROLE_tun_reader);
    struct key_name name;
    put(region, 1, &name);
    const struct key_name bad[] = {
        {name.place, 0},          {name.place, name.generation + 1},
        {name.place + 1, 0},      {N_KEY_PLACES, name.generation},
        {UINT32_MAX, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(is_gone(area, &bad[i]));
        key_region_wipe(region, &bad[i]);
    }
    CHECK(has_key(area, &name, 1, 0));
    key_area_detach(area);
    key_region_free(region);
}

/* -- a half-written key ----------------------------------------------------------------------------- */

/* What a put leaves that was cut off before its last step, in memory that a test can write. */
static void test_a_key_that_is_half_written_is_never_used(void) {
    static struct key_area area; /* all zeros, as a new one */
    uint8_t key[AEAD_KEY_SIZE];
    for (unsigned n_written = 0; n_written <= AEAD_KEY_SIZE; n_written++) {
        memset(area.entries[0].key, 0xff, n_written);
        for (uint64_t generation = 0; generation < 3; generation++)
            CHECK_EQUAL(key_area_read(&area, &(struct key_name){0, generation}, key), -ENOENT);
    }
    area.entries[0].generation = 1;
    CHECK_EQUAL(key_area_read(&area, &(struct key_name){0, 1}, key), 0);
}

/* Puts and wipes at one place until it is killed; `to` is sent the area's descriptor. */
static void write_until_killed(int to) {
    struct key_region *region = key_region_create(0);
    struct key_name name;
    fds_send(to, key_region_fd(region, ROLE_link_reader));
    for (uint64_t generation = 1;; generation++) {
        put(region, generation, &name);
        key_region_wipe(region, &name);
    }
}

/* The area outlives its writer here; in fastun the workers end with the gateway. */
static void test_a_writer_that_is_killed_leaves_whole_keys_only(void) {
    for (unsigned n = 0; n < N_KILLS; n++) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
        pid_t writer = fork();
        if (writer == 0)
            write_until_killed(pair[1]);
        int fd = fds_receive(pair[0]);
        usleep(n * 37 % 1000);
        CHECK(kill(writer, SIGKILL) == 0 && waitpid(writer, NULL, 0) == writer);
        struct key_area *area = key_area_attach(fd);
        CHECK(area != NULL);
        for (uint32_t place = 0; place < N_KEY_PLACES; place++) {
            struct key_name name = {place, area->entries[place].generation};
            CHECK(name.generation == 0 || has_key(area, &name, name.generation, 1));
        }
        key_area_detach(area);
        close(fd);
        close(pair[0]);
        close(pair[1]);
    }
}

/* Reads as fast as it can what another process puts and wipes: a key is whole or it is gone. */
static void test_a_reader_beside_a_writer_sees_whole_keys_only(void) {
    struct key_region *region = key_region_create(0);
    struct key_area *area = attach(region, ROLE_link_reader);
    int done[2];
    CHECK(pipe(done) == 0);
    /* DONTFORK: the child attaches to an area of its own. */
    int fd = key_region_fd(region, ROLE_link_reader);
    pid_t reader = fork();
    if (reader == 0) {
        struct key_area *its = key_area_attach(fd);
        char byte;
        close(done[1]);
        for (uint64_t generation = 0; generation < N_STEPS;) {
            uint8_t key[AEAD_KEY_SIZE], expected[AEAD_KEY_SIZE];
            struct key_name name = {0, its->entries[0].generation};
            if (key_area_read(its, &name, key) < 0)
                continue;
            key_of(expected, name.generation, 1);
            if (memcmp(key, expected, sizeof key) != 0)
                _exit(1);
            generation = name.generation;
        }
        (void)!read(done[0], &byte, 1);
        _exit(0);
    }
    for (uint64_t generation = 1; generation <= N_STEPS; generation++) {
        struct key_name name;
        put(region, generation, &name);
        CHECK_EQUAL(name.place, 0);
        CHECK_EQUAL(name.generation, generation);
        if (generation < N_STEPS)
            key_region_wipe(region, &name);
    }
    close(done[1]);
    int status;
    CHECK(waitpid(reader, &status, 0) == reader && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(done[0]);
    key_area_detach(area);
    key_region_free(region);
}

/* -- who may read it -------------------------------------------------------------------------------- */

static void test_a_worker_cannot_write_its_area(void) {
    struct key_region *region = key_region_create(0);
    struct key_area *area = attach(region, ROLE_tun_reader);
    int fd = key_region_fd(region, ROLE_tun_reader);
    CHECK(mprotect(area, sizeof *area, PROT_READ | PROT_WRITE) < 0);
    CHECK(mmap(NULL, sizeof *area, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_EQUAL(key_region_fd(region, ROLE_link_writer), -1);
    CHECK_EQUAL(key_region_fd(region, ROLE_tun_writer), -1);
    key_area_detach(area);
    key_region_free(region);
}

static void test_secret_memory_cannot_be_read_from_outside(void) {
    struct key_region *region = key_region_create(1);
    if (!key_region_is_secret(region)) {
        CHECK(key_region_secret_errno(region) != 0);
        key_region_free(region);
        return;
    }
    struct key_area *area = attach(region, ROLE_tun_reader);
    struct key_name name;
    put(region, 3, &name);
    CHECK(has_key(area, &name, 3, 0));
    uint8_t found[AEAD_KEY_SIZE];
    struct iovec to = {found, sizeof found};
    struct iovec from = {area->entries[name.place].key, sizeof found};
    CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0);
    key_area_detach(area);
    key_region_free(region);
}

/* -- what a cipher uses ----------------------------------------------------------------------------- */

static void test_each_cipher_has_its_own_key(void) {
    /* HKDF-Expand of 32 zero bytes by Python's hmac and hashlib.blake2s. */
    static const uint8_t aes_of_zeros[AEAD_KEY_SIZE] = {
        0x39, 0x28, 0x64, 0xee, 0x1e, 0x82, 0x71, 0x38, 0xf9, 0x04, 0x5d,
        0x79, 0x5e, 0x44, 0x9f, 0x88, 0xc8, 0xb8, 0xef, 0x99, 0x31, 0x79,
        0xca, 0xe9, 0x1f, 0x1f, 0x72, 0x03, 0xe4, 0x9d, 0x66, 0xcd};
    static const uint8_t zeros[AEAD_KEY_SIZE];
    uint8_t key[AEAD_KEY_SIZE];
    CHECK_EQUAL(session_key_derive(zeros, AEAD_AES_256_GCM, key), 0);
    CHECK(memcmp(key, aes_of_zeros, sizeof key) == 0);
    CHECK_EQUAL(session_key_derive(zeros, AEAD_CHACHA20_POLY1305, key), 0);
    CHECK(memcmp(key, zeros, sizeof key) == 0);
    CHECK_EQUAL(session_key_derive(zeros, (enum aead)7, key), -EINVAL);
    CHECK_EQUAL(session_key_of(NULL, &(struct key_name){0, 1}, AEAD_AES_256_GCM, key), -EINVAL);
}

int main(void) {
    RUN(test_what_is_put_is_found_until_it_is_wiped);
    RUN(test_a_wiped_key_leaves_no_byte);
    RUN(test_it_is_full_some_time_and_says_so);
    RUN(test_names_that_cannot_be_find_nothing);
    RUN(test_a_key_that_is_half_written_is_never_used);
    RUN(test_a_writer_that_is_killed_leaves_whole_keys_only);
    RUN(test_a_reader_beside_a_writer_sees_whole_keys_only);
    RUN(test_a_worker_cannot_write_its_area);
    RUN(test_secret_memory_cannot_be_read_from_outside);
    RUN(test_each_cipher_has_its_own_key);
    return 0;
}
