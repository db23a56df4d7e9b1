#define _GNU_SOURCE
#include "session/key_region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session/secret_memory.h"
#include "shared/shared_memory.h"
#include "shared/stats.h"

enum { SENDING, RECEIVING, N_DIRECTIONS };

/* linux/fcntl.h, where the libc's is older than the kernel (5.1): who has the descriptor maps it
 * read-only. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

struct key_region {
    struct key_area *areas[N_DIRECTIONS];
    int fds[N_DIRECTIONS];
    bool is_secret;
    int secret_errno;
    uint64_t generation; /* the last one given out */
    unsigned n_touched;  /* places behind these never had a key, and no memory yet */
    unsigned n_free;
    uint16_t free[N_KEY_PLACES]; /* the last one is the next to be taken */
};

/* -- memory ------------------------------------------------------------------------------------ */

static void *map(int fd, int protection) {
    void *memory = mmap(NULL, sizeof(struct key_area), protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, sizeof(struct key_area), MADV_DONTDUMP); /* memfd_secret is so already */
    (void)madvise(memory, sizeof(struct key_area), MADV_DONTFORK);
    return memory;
}

/* Pages are locked as they are used; that a limit keeps them from it is not an error, as in secret_memory.h. */
static void hide(const struct key_region *region, unsigned direction) {
    if (region->is_secret)
        return;
    (void)mlock2(region->areas[direction], sizeof(struct key_area), MLOCK_ONFAULT);
    (void)fcntl(region->fds[direction], F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
}

static void close_areas(struct key_region *region) {
    for (unsigned i = 0; i < N_DIRECTIONS; i++) {
        if (region->areas[i] != NULL) {
            explicit_bzero(region->areas[i], region->n_touched * sizeof(struct key_entry));
            munmap(region->areas[i], sizeof(struct key_area));
        }
        if (region->fds[i] >= 0)
            close(region->fds[i]);
        region->areas[i] = NULL;
        region->fds[i] = -1;
    }
}

static int open_areas(struct key_region *region, bool is_secret) {
    region->is_secret = is_secret;
    for (unsigned i = 0; i < N_DIRECTIONS; i++) {
        region->fds[i] = is_secret ? secret_memory_open(sizeof(struct key_area))
                                   : shared_memory_open("fastun-keys", sizeof(struct key_area));
        int error = region->fds[i] < 0 ? region->fds[i] : 0;
        if (error == 0) {
            region->areas[i] = map(region->fds[i], PROT_READ | PROT_WRITE);
            error = region->areas[i] == NULL ? -errno : 0; /* EAGAIN: RLIMIT_MEMLOCK */
        }
        if (error < 0) {
            close_areas(region);
            return error;
        }
        hide(region, i);
    }
    return 0;
}

/* Whether workers, without a capability, may map an area of locked memory: this process may have
 * CAP_IPC_LOCK still. The limit is raised as theirs will be. */
static bool workers_may_lock(void) {
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0)
        return true;
    struct rlimit limit;
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= sizeof(struct key_area);
}

struct key_region *key_region_create(int wants_secret) {
    struct key_region *region = calloc(1, sizeof *region);
    if (region == NULL)
        return NULL;
    region->fds[SENDING] = region->fds[RECEIVING] = -1;
    while (region->n_free < N_KEY_PLACES) {
        region->free[region->n_free] = (uint16_t)(N_KEY_PLACES - 1 - region->n_free);
        region->n_free++;
    }
    int error = !wants_secret ? -ENOENT : workers_may_lock() ? open_areas(region, true) : -EAGAIN;
    region->secret_errno = wants_secret ? -error : 0;
    if (error < 0)
        error = open_areas(region, false);
    if (error == 0)
        return region;
    free(region);
    errno = -error;
    return NULL;
}

void key_region_free(struct key_region *region) {
    close_areas(region);
    free(region);
}

int key_region_fd(struct key_region *region, unsigned role) {
    if (role == ROLE_tun_reader)
        return region->fds[SENDING];
    return role == ROLE_link_reader ? region->fds[RECEIVING] : -1;
}

int key_region_is_secret(struct key_region *region) {
    return region->is_secret;
}

int key_region_secret_errno(struct key_region *region) {
    return region->secret_errno;
}

struct key_area *key_area_attach(int fd) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return NULL;
    if ((size_t)status.st_size != sizeof(struct key_area)) {
        errno = EINVAL;
        return NULL;
    }
    return map(fd, PROT_READ);
}

void key_area_detach(struct key_area *area) {
    munmap(area, sizeof *area);
}

/* -- keys -------------------------------------------------------------------------------------- */

static void write_key(struct key_entry *entry, const uint8_t key[AEAD_KEY_SIZE],
                      uint64_t generation) {
    memcpy(entry->key, key, AEAD_KEY_SIZE); /* its generation is 0: no reader believes it yet */
    atomic_store_explicit(&entry->generation, generation, memory_order_release);
}

static void wipe_key(struct key_entry *entry) {
    atomic_store_explicit(&entry->generation, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* 0 before the key goes (partner: the reader's) */
    explicit_bzero(entry->key, sizeof entry->key);
}

int key_region_put(struct key_region *region, const uint8_t send[AEAD_KEY_SIZE],
                   const uint8_t receive[AEAD_KEY_SIZE], struct key_name *name) {
    if (region->n_free == 0)
        return -ENOSPC;
    *name = (struct key_name){region->free[--region->n_free], ++region->generation};
    if (region->n_touched <= name->place)
        region->n_touched = name->place + 1;
    write_key(&region->areas[SENDING]->entries[name->place], send, name->generation);
    write_key(&region->areas[RECEIVING]->entries[name->place], receive, name->generation);
    return 0;
}

void key_region_wipe(struct key_region *region, const struct key_name *name) {
    if (name->place >= N_KEY_PLACES || name->generation == 0)
        return;
    struct key_entry *sending = &region->areas[SENDING]->entries[name->place];
    if (atomic_load_explicit(&sending->generation, memory_order_relaxed) != name->generation)
        return;
    wipe_key(sending);
    wipe_key(&region->areas[RECEIVING]->entries[name->place]);
    region->free[region->n_free++] = (uint16_t)name->place;
}

unsigned key_region_n_places(void) {
    return N_KEY_PLACES;
}

unsigned key_region_n_used(struct key_region *region) {
    return N_KEY_PLACES - region->n_free;
}

int key_area_read(const struct key_area *area, const struct key_name *name,
                  uint8_t key[AEAD_KEY_SIZE]) {
    if (name->place >= N_KEY_PLACES || name->generation == 0)
        return -ENOENT;
    const struct key_entry *entry = &area->entries[name->place];
    if (atomic_load_explicit(&entry->generation, memory_order_acquire) != name->generation)
        return -ENOENT;
    memcpy(key, entry->key, AEAD_KEY_SIZE);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&entry->generation, memory_order_relaxed) == name->generation)
        return 0;
    explicit_bzero(key, AEAD_KEY_SIZE);
    return -ENOENT;
}
