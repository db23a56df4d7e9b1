/* Any bytes as what a worker left in a capture's ring: what is read stays inside the ring, what is
 * written is whole blocks inside the room for them. Input: head, tail, then the records, which begin
 * where tail points. */
#include "capture.h"
#include "fuzz_ring_memory.h"

enum { ROOM = 2 * CAPTURE_BLOCK_MAX };

static void check_blocks(const uint8_t *blocks, size_t length, uint64_t n_expected) {
    uint64_t n = 0;
    for (uint32_t block; length > 0; blocks += block, length -= block, n++) {
        FUZZ_CHECK(length >= 32);
        memcpy(&block, blocks + 4, sizeof block);
        FUZZ_CHECK(block % 4 == 0 && block >= 32 && block <= length);
        FUZZ_CHECK(memcmp(blocks + block - 4, blocks + 4, 4) == 0);
    }
    FUZZ_CHECK(n == n_expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t room[ROOM]; /* the sanitizer watches its end */
    if (!fuzz_ring_takes(size))
        return 0;
    fuzz_ring_set(data, size);
    struct ring *reader = ring_attach(memory_fd, FUZZ_RING_SIZE);
    if (reader == NULL)
        return 0;
    int n;
    do {
        struct capture_output output = {.n_left = 100};
        n = capture_read(&reader, 1, &output, room, sizeof room);
        FUZZ_CHECK(n <= (int)sizeof room);
        if (n >= 0)
            check_blocks(room, (size_t)n,
                         output.n_packets[0] + output.n_packets[1] + output.n_packets[2]);
    } while (n > 0);
    ring_detach(reader);
    return 0;
}
