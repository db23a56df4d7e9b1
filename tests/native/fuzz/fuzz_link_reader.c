/* Any byte stream before the link-reader: it ends, counts what it took in, and leaves only frames
 * in the ring that the device can be given. */
#define _GNU_SOURCE
#include "fuzz_lane.h"

enum { STREAM_MAX = 32768 /* its smallest frames fill half the ring */ };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int stream[2];
    if (size < 1 || size > STREAM_MAX)
        return 0;
    fuzz_lane_open_once();
    struct link_format format = fuzz_format(data[0]);
    memset(lane.stats, 0, sizeof *lane.stats);
    pair_open(stream, SOCK_STREAM);
    FUZZ_CHECK(write(stream[1], data + 1, size - 1) == (ssize_t)size - 1);
    close(stream[1]);
    struct loop *loop = fuzz_loop_of(format.wire, format.mode);
    FUZZ_CHECK(loop_attach_link(loop, 0, 0, stream[0], &format) == 0);
    FUZZ_CHECK(loop_run(loop) == LOOP_EVENT);
    enum event_kind end = loop_event(loop)->kind;
    FUZZ_CHECK(end == EVENT_LINK_CLOSED || end == EVENT_LINK_FAULT);
    loop_detach_link(loop, 0);
    close(stream[0]);
    fuzz_check_lane(format.mode, false);
    return 0;
}
