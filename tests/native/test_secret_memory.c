/* Where keys come to lie: in memory that is locked, left out of core dumps, kept from children, and
 * nowhere else. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "check.h"
#include "keys.h"
#include "random.h"
#include "session/aead_library.h"
#include "session/secret_memory.h"

static const enum aead aeads[] = {AEAD_CHACHA20_POLY1305, AEAD_AES_256_GCM};
enum { N_AEADS = sizeof aeads / sizeof aeads[0] };

static uint8_t *bytes_new(size_t length) {
    uint8_t *bytes = malloc(length);
    CHECK(bytes != NULL);
    return bytes;
}

static void use(struct aead_key *key) {
    uint8_t text[1436 + AEAD_TAG_SIZE] = {0};
    CHECK_EQUAL(seal_in_place(key, 1, text, 1436), sizeof text);
    CHECK_EQUAL(open_into(key, 1, text, sizeof text, text), 1436);
    CHECK(is_zero(text, 1436));
}

/* The mapping that holds `address`, or the first behind it, with its flags as the kernel names
 * them: lo locked, dd not dumped, dc not copied by fork. */
struct mapping {
    uintptr_t first, end;
    char flags[128];
};

static bool next_mapping(FILE *smaps, struct mapping *mapping) {
    char line[512], permissions[8];
    bool is_readable = false;
    while (fgets(line, sizeof line, smaps) != NULL) {
        uintptr_t first, end;
        if (sscanf(line, "%lx-%lx %7s", &first, &end, permissions) == 3) {
            mapping->first = first;
            mapping->end = end;
            is_readable = permissions[0] == 'r' && permissions[1] == 'w';
        }
        if (is_readable && sscanf(line, "VmFlags: %127[^\n]", mapping->flags) == 1)
            return true;
    }
    return false;
}

static struct mapping mapping_of(const void *memory) {
    struct mapping mapping = {0};
    FILE *smaps = fopen("/proc/self/smaps", "r");
    while (next_mapping(smaps, &mapping) && mapping.end <= (uintptr_t)memory)
        ;
    fclose(smaps);
    return mapping;
}

static size_t hidden_bytes(void) {
    struct mapping mapping = {0};
    size_t n_bytes = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    while (next_mapping(smaps, &mapping))
        if (strstr(mapping.flags, "dd ") != NULL && strstr(mapping.flags, "dc ") != NULL)
            n_bytes += mapping.end - mapping.first;
    fclose(smaps);
    return n_bytes;
}

/* Back with the kernel, or in the one mapping of its class that stays. */
static bool is_wiped(const uint8_t *memory, size_t size) {
    return mapping_of(memory).first > (uintptr_t)memory || is_zero(memory, size);
}

static void secret_memory_is_locked_and_neither_dumped_nor_inherited(void) {
    static const size_t sizes[] = {1, 4032, 4033, 4096, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i];
        uint8_t *secret = secret_memory_new(size);
        CHECK(secret != NULL && (uintptr_t)secret % 64 == 0 && is_zero(secret, size));
        memset(secret, 0x5a, size);
        struct mapping mapping = mapping_of(secret);
        CHECK(mapping.first <= (uintptr_t)secret && mapping.end >= (uintptr_t)secret + size);
        CHECK(strstr(mapping.flags, "lo ") != NULL);
        CHECK(strstr(mapping.flags, "dd ") != NULL);
        CHECK(strstr(mapping.flags, "dc ") != NULL);
        secret_memory_free(secret);
        CHECK(is_wiped(secret, size));
    }
    secret_memory_free(NULL);
}

static void resizing_keeps_the_content(void) {
    struct random random = {8};
    uint8_t expected[9000];
    random_fill(&random, expected, sizeof expected);
    uint8_t *first = secret_memory_resize(NULL, 100);
    memcpy(first, expected, 100);
    uint8_t *secret = secret_memory_resize(first, sizeof expected);
    CHECK(is_wiped(first, 100));
    CHECK(memcmp(secret, expected, 100) == 0 && is_zero(secret + 100, sizeof expected - 100));
    memcpy(secret, expected, sizeof expected);
    secret = secret_memory_resize(secret, 50);
    CHECK(memcmp(secret, expected, 50) == 0);
    errno = 0;
    CHECK(secret_memory_resize(secret, SIZE_MAX - 100) == NULL && errno == ENOMEM);
    CHECK(memcmp(secret, expected, 50) == 0);
    secret_memory_free(secret);
}

/* Pieces of many sizes, taken and given back in any order: none touches another, all are zeroed, and
 * little is mapped for them. */
static void small_pieces_share_mappings(void) {
    enum { N = 400, SIZE_MAX_BYTES = 3000 };
    struct random random = {21};
    uint8_t *pieces[N] = {0};
    size_t sizes[N] = {0}, n_wanted = 0, before = hidden_bytes();
    for (int i = 0; i < 20 * N; i++) {
        size_t at = random_below(&random, N);
        for (size_t byte = 0; byte < sizes[at]; byte++)
            CHECK_EQUAL(pieces[at][byte], (uint8_t)at);
        secret_memory_free(pieces[at]);
        sizes[at] = 1 + random_below(&random, SIZE_MAX_BYTES);
        pieces[at] = secret_memory_new(sizes[at]);
        CHECK((uintptr_t)pieces[at] % 64 == 0 && is_zero(pieces[at], sizes[at]));
        memset(pieces[at], (int)at, sizes[at]);
    }
    for (size_t at = 0; at < N; at++)
        n_wanted += sizes[at];
    CHECK(hidden_bytes() - before < 2 * n_wanted + 24 * 16384);
    for (size_t at = 0; at < N; at++)
        secret_memory_free(pieces[at]);
    CHECK(hidden_bytes() <= before + 24 * 16384); /* one mapping of each size */
}

/* Looks for the key in all that a core dump would hold. It is known here by its complement, so that
 * the search does not find itself. */
__attribute__((no_sanitize("address"))) static bool is_dumped(const uint8_t complement[16]) {
    struct mapping mapping = {0};
    FILE *smaps = fopen("/proc/self/smaps", "r");
    bool found = false;
    while (!found && next_mapping(smaps, &mapping)) {
        if (strstr(mapping.flags, "dd") != NULL)
            continue;
        for (const uint8_t *at = (const uint8_t *)mapping.first;
             at + 16 <= (const uint8_t *)mapping.end; at++) {
            size_t n = 0;
            while (n < 16 && (at[n] ^ complement[n]) == 0xff)
                n++;
            found = found || n == 16;
        }
    }
    fclose(smaps);
    return found;
}

static void check_that_no_dump_holds(const struct aead_library *library) {
    struct random random = {31337};
    struct aead_key *keys[N_AEADS];
    uint8_t complements[N_AEADS][AEAD_KEY_SIZE], *bytes = bytes_new(AEAD_KEY_SIZE);
    for (int i = 0; i < N_AEADS; i++) {
        random_fill(&random, complements[i], AEAD_KEY_SIZE);
        for (int at = 0; at < AEAD_KEY_SIZE; at++)
            bytes[at] = complements[i][at] ^ 0xff;
        CHECK(is_dumped(complements[i])); /* the search finds what is there */
        size_t n_bytes = hidden_bytes();
        keys[i] = library->key_new(aeads[i], bytes);
        explicit_bzero(bytes, AEAD_KEY_SIZE);
        CHECK(strstr(mapping_of(keys[i]).flags, "dd ") != NULL);
        use(keys[i]);
        CHECK(!is_dumped(complements[i]));
        CHECK(!is_dumped(complements[i] + 16));
        aead_key_free(keys[i]);
        CHECK(is_wiped((const uint8_t *)keys[i], sizeof *keys[i]));
        CHECK(hidden_bytes() <= n_bytes + 24 * 16384);
        CHECK(!is_dumped(complements[i]));
    }
    free(bytes);
}

static void no_core_dump_would_hold_a_key(void) {
    CHECK_EQUAL(aead_init(), 0);
    check_that_no_dump_holds(&aead_gcrypt);
    if (strcmp(aead_library_name(), aead_gcrypt.name) != 0)
        check_that_no_dump_holds(&aead_ipsec_mb);
    aead_key_free(NULL);
}

/* In a child, since it gives up its privileges; so before this process has touched the library,
 * whose memory no child inherits. */
static void without_leave_to_lock_memory_keys_still_work(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        CHECK_EQUAL(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        if (geteuid() == 0)
            CHECK_EQUAL(setuid(65534), 0);
        uint8_t bytes[AEAD_KEY_SIZE] = {1};
        struct aead_key *key = aead_key_new(AEAD_CHACHA20_POLY1305, bytes);
        CHECK(key != NULL);
        use(key);
        aead_key_free(key);
        _exit(EXIT_SUCCESS);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
}

/* All of the above once more, in memory by memfd_secret where the kernel has it: then it is not dumped
 * because it cannot be read at all. */
static void pieces_are_hidden_where_the_kernel_can(void) {
    enum { N = 400 };
    uint8_t *pieces[N];
    if (secret_memory_hide() < 0)
        return;
    for (unsigned round = 0; round < 3; round++) { /* places are used again, and zeroed */
        for (unsigned i = 0; i < N; i++) {
            size_t size = 60 + i * 7 % 2500;
            pieces[i] = secret_memory_new(size);
            CHECK(pieces[i] != NULL && is_zero(pieces[i], size));
            memset(pieces[i], 0x5a, size);
            uint8_t byte;
            struct iovec to = {&byte, 1}, from = {pieces[i], 1};
            CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0);
        }
        for (unsigned i = 0; i < N; i++)
            secret_memory_free(pieces[(i * 7 + round) % N]);
    }
    uint8_t *large = secret_memory_new(100000); /* a mapping of its own, locked as ever */
    CHECK(large != NULL && is_zero(large, 100000));
    secret_memory_free(large);
}

int main(void) {
    RUN(without_leave_to_lock_memory_keys_still_work);
    RUN(secret_memory_is_locked_and_neither_dumped_nor_inherited);
    RUN(resizing_keeps_the_content);
    RUN(small_pieces_share_mappings);
    RUN(pieces_are_hidden_where_the_kernel_can); /* and from here on, all are */
    RUN(no_core_dump_would_hold_a_key);
    return EXIT_SUCCESS;
}
