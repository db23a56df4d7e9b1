/* Checksums, a super-packet cut into its packets, and the packets put together again.
 *
 * All of it goes through the same memory each time: some 60 to 150 KiB, in the second-level cache
 * and not in the first, as what a neighbour has just written there.
 */
#include <errno.h>

#include "packet/checksum.h"
#include "packet/gro.h"
#include "packet/gso.h"
#include "measured_subjects.h"

enum { PACKET_SPACE = 2048 };

static struct super_packet super_packet;
static uint8_t packets[N_SEGMENTS][PACKET_SPACE];
static size_t lengths[N_SEGMENTS];

/* -- checksum ---------------------------------------------------------------------------------- */

static size_t n_summed;
static uint64_t expected_sum;

int prepare_checksum(size_t size, int kind) {
    struct random random = {1};
    (void)kind;
    if (size > sizeof super_packet.bytes)
        return -EINVAL;
    random_fill(&random, super_packet.bytes, size);
    n_summed = size;
    expected_sum = checksum_add(0, super_packet.bytes, size);
    return 0;
}

uint64_t run_checksum(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += checksum_add(0, super_packet.bytes, n_summed) == expected_sum;
    return done;
}

/* -- split ------------------------------------------------------------------------------------- */

int prepare_split(size_t size, int kind) {
    (void)size;
    make_tcp_super_packet(&super_packet, kind);
    return 0;
}

uint64_t run_split(uint64_t n) {
    uint64_t done = 0;
    struct gso_split split;
    for (uint64_t i = 0; i < n; i++) {
        int n_segments =
            gso_split_begin(&split, &super_packet.vnet, super_packet.bytes, super_packet.length);
        for (int segment = 0; segment < n_segments; segment++)
            gso_write_segment(&split, segment, packets[segment]);
        done += n_segments == N_SEGMENTS;
    }
    return done;
}

/* -- coalesce ---------------------------------------------------------------------------------- */

int prepare_coalesce(size_t size, int kind) {
    (void)size;
    make_tcp_super_packet(&super_packet, kind);
    for (size_t i = 0; i < N_SEGMENTS; i++)
        lengths[i] = super_packet_segment(&super_packet, i, packets[i]);
    return 0;
}

uint64_t run_coalesce(uint64_t n) {
    static struct gro_group group;
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++) {
        bool is_one = gro_begin(&group, packets[0], lengths[0], 0);
        for (size_t packet = 1; packet < N_SEGMENTS && is_one; packet++)
            is_one = gro_extend(&group, packets[packet], lengths[packet]);
        done += is_one && gro_finish(&group) > 0;
    }
    return done;
}
