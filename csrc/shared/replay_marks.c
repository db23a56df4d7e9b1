#define _GNU_SOURCE
#include "shared/replay_marks.h"

#include <stddef.h>
#include <sys/mman.h>

#include "shared/shared_memory.h"

int replay_marks_open(void) {
    return shared_memory_open("fastun-marks", sizeof(struct replay_marks));
}

struct replay_marks *replay_marks_attach(int fd) {
    return shared_memory_attach(fd, sizeof(struct replay_marks));
}

void replay_marks_detach(struct replay_marks *marks) {
    munmap(marks, sizeof *marks);
}

struct replay_mark *replay_marks_find(struct replay_marks *marks, unsigned slot, uint32_t index) {
    for (unsigned i = 0; i < MARKS_A_SLOT; i++)
        if (atomic_load(&marks->of_slot[slot][i].name) == (uint64_t)index + 1)
            return &marks->of_slot[slot][i];
    return NULL;
}

/* Whatever the moment of a kill: no key has the mark of another. */
void replay_mark_begin(struct replay_mark *mark, uint32_t index) {
    atomic_store(&mark->name, 0);
    atomic_store(&mark->next, 0);
    atomic_store(&mark->name, (uint64_t)index + 1);
}

void replay_mark_end(struct replay_mark *mark) {
    atomic_store(&mark->name, 0);
}
