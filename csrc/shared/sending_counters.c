#define _GNU_SOURCE
#include "shared/sending_counters.h"

#include <sys/mman.h>

#include "shared/shared_memory.h"

struct sending_counters *sending_counters_create(int *fd) {
    return shared_memory_create("fastun-counters", sizeof(struct sending_counters), fd);
}

struct sending_counters *sending_counters_attach(int fd) {
    return shared_memory_attach(fd, sizeof(struct sending_counters));
}

void sending_counters_detach(struct sending_counters *counters) {
    munmap(counters, sizeof *counters);
}

uint64_t sending_counters_drawn(struct sending_counters *counters, unsigned slot, unsigned place) {
    return sending_counter_drawn(&counters->places[slot][place]);
}

uint64_t sending_counters_draw(struct sending_counters *counters, unsigned slot, unsigned place) {
    return sending_counter_draw(&counters->places[slot][place], 1);
}
