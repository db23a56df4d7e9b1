#define _GNU_SOURCE
#include "session/code_pages.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static uintptr_t start_of(const struct dl_phdr_info *library, const ElfW(Phdr) * segment) {
    return (uintptr_t)library->dlpi_addr + segment->p_vaddr;
}

static bool is_code(const ElfW(Phdr) * segment) {
    return segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0 &&
           (segment->p_flags & PF_W) == 0;
}

/* Whether its code was changed where the library was placed. */
static bool has_relocated_code(const struct dl_phdr_info *library) {
    for (int i = 0; i < library->dlpi_phnum; i++) {
        if (library->dlpi_phdr[i].p_type != PT_DYNAMIC)
            continue;
        const ElfW(Dyn) *entry =
            (const ElfW(Dyn) *)(const void *)start_of(library, &library->dlpi_phdr[i]);
        for (; entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_TEXTREL ||
                (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0))
                return true;
    }
    return false;
}

static int drop_if_it_is_here(struct dl_phdr_info *library, size_t size, void *address) {
    (void)size;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &library->dlpi_phdr[i];
        uintptr_t start = start_of(library, segment);
        if (!is_code(segment) || (uintptr_t)address - start >= segment->p_memsz)
            continue;
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = start & ~(page - 1);
        if (!has_relocated_code(library))
            (void)madvise((void *)first, start + segment->p_memsz - first, MADV_DONTNEED);
        return 1;
    }
    return 0;
}

void code_pages_drop(const void *address) {
    (void)dl_iterate_phdr(drop_if_it_is_here, (void *)(uintptr_t)address);
}
