/* fuzz: what the fuzz targets share: their input's first byte chooses the link's format. */
#ifndef FUZZ_H
#define FUZZ_H

#include <string.h>

#include "formats.h"

#define FUZZ_CHECK(condition) ((condition) ? (void)0 : __builtin_trap())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct link_format fuzz_format(uint8_t choice) {
    enum mode mode = (choice & 1) != 0 ? MODE_TAP : MODE_TUN;
    return (choice & 2) != 0 ? simpletun_format(mode) : plain_format(mode, (choice & 4) == 0);
}

#endif
