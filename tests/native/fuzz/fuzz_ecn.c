/* Any frame whose ECN codepoint is read, marked and combined: only the two bits change, and IPv4's
 * checksum stays as right or wrong as it was; the table is RFC 6040's. The first byte has the mode
 * and the outer codepoint. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/ecn.h"
#include "super_packet.h"

enum { DROPPED = -1 };

/* RFC 6040, figure 4: by the inner codepoint, then the outer one. */
static const int combined[4][4] = {
    [ECN_NOT_ECT] = {ECN_NOT_ECT, ECN_NOT_ECT, ECN_NOT_ECT, DROPPED},
    [ECN_ECT_1] = {ECN_ECT_1, ECN_ECT_1, ECN_ECT_1, ECN_CE},
    [ECN_ECT_0] = {ECN_ECT_0, ECN_ECT_1, ECN_ECT_0, ECN_CE},
    [ECN_CE] = {ECN_CE, ECN_CE, ECN_CE, ECN_CE},
};

static void check_only_that(const uint8_t *before, const uint8_t *after, size_t length) {
    size_t n_changed = 0;
    for (size_t i = 0; i < length; i++)
        n_changed += before[i] != after[i];
    FUZZ_CHECK(n_changed <= 3); /* of IPv4 the codepoint and the checksum */
}

/* A TUN device gives whole headers; a frame of Ethernet may end inside. */
static bool has_ip(enum mode mode, const uint8_t *frame, size_t length, size_t *ip) {
    *ip = mode == MODE_TAP ? ethernet_find_ip(frame, length) : 0;
    if (mode == MODE_TAP)
        return *ip != 0;
    return (length >= IPV4_HEADER_SIZE && ip_version(frame) == 4) ||
           (length >= IPV6_HEADER_SIZE && ip_version(frame) == 6);
}

static void check_sum(const uint8_t *before, const uint8_t *after, size_t length) {
    if (ip_version(before) == 4)
        FUZZ_CHECK(naive_sum(0, before, length) % 0xffff == naive_sum(0, after, length) % 0xffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    enum mode mode = (data[0] & 1) != 0 ? MODE_TAP : MODE_TUN;
    enum ecn outer = data[0] >> 1 & ECN_MASK;
    const uint8_t *before = data + 1;
    size_t length = size - 1, ip;
    uint8_t *frame = malloc(length); /* exact, for ASan */
    memcpy(frame, before, length);
    if (!has_ip(mode, frame, length, &ip)) {
        if (mode == MODE_TAP)
            FUZZ_CHECK(ecn_of_frame(mode, frame, length) == ECN_NOT_ECT);
        free(frame);
        return 0;
    }
    enum ecn inner = ecn_of_frame(mode, frame, length);
    bool passes = ecn_combine(mode, frame, length, outer);
    check_only_that(before, frame, length);
    check_sum(before + ip, frame + ip, length - ip);
    FUZZ_CHECK(passes == (combined[inner][outer] != DROPPED));
    if (passes)
        FUZZ_CHECK((int)ecn_of_frame(mode, frame, length) == combined[inner][outer]);
    memcpy(frame, before, length);
    FUZZ_CHECK(ecn_mark(mode, frame, length) == (inner != ECN_NOT_ECT));
    check_only_that(before, frame, length);
    check_sum(before + ip, frame + ip, length - ip);
    free(frame);
    return 0;
}
