/* gso_split: what cutting a super-packet costs a segment, and copying and summing in one pass or
 * two.
 *
 *     cc -O2 -I../../csrc -o gso_split gso_split.c ../../csrc/packet/gso.c
 * ../../csrc/packet/checksum.c \
 *         ../../csrc/packet/vnet.c
 *     ./gso_split
 *
 * Super-packets of 45 segments with 1,368 bytes of payload each (MTU 1420, timestamps). The frames
 * are in a ring's 2 MiB, the segments go to places of 2 KiB each; so neither is in the first
 * cache, as little as in a tunnel. CPU-ns, median of ROUNDS.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/gso.h"

enum {
    ROUNDS = 41,
    N_FRAMES = 32,
    N_SEGMENTS = 45,
    PAYLOAD = 1368,
    TCP_HEADER = 32,
    FRAME_SPACE = 65536,
    SEGMENT_SPACE = 2048,
};

struct kind {
    const char *name;
    int version;
    int is_udp;
};

static uint8_t frames[N_FRAMES * FRAME_SPACE];
static uint8_t segments[N_SEGMENTS * SEGMENT_SPACE];
static size_t header_length, frame_length;
static struct vnet vnet;
static volatile uint64_t sink;

static void make_frame(uint8_t *frame, const struct kind *kind) {
    size_t transport = kind->version == 4 ? 20 : 40;
    for (size_t i = 0; i < FRAME_SPACE; i++)
        frame[i] = (uint8_t)(i * 2654435761u >> 13);
    header_length = transport + (kind->is_udp ? 8 : TCP_HEADER);
    frame_length = header_length + N_SEGMENTS * PAYLOAD;
    frame[0] = kind->version == 4 ? 0x45 : 0x60;
    frame[kind->version == 4 ? 9 : 6] = kind->is_udp ? 17 : 6;
    be16_write(frame + (kind->version == 4 ? 2 : 4),
               (uint16_t)(frame_length - (kind->version == 4 ? 0 : 40)));
    if (kind->version == 4)
        be16_write(frame + 6, 0); /* no fragment */
    if (!kind->is_udp)
        frame[transport + 12] = TCP_HEADER / 4 << 4;
    vnet = (struct vnet){VNET_NEEDS_CSUM,
                         (uint8_t)(kind->version == 4 ? 1 : 4),
                         0,
                         PAYLOAD,
                         (uint16_t)transport,
                         kind->is_udp ? 6 : 16,
                         0};
    if (kind->is_udp)
        vnet.gso_type = VNET_GSO_UDP_L4;
    if (vnet_check(&vnet, frame, frame_length, 0) != N_SEGMENTS)
        exit(EXIT_FAILURE);
}

/* -- one frame of each way --------------------------------------------------------------------- */

static void split(const uint8_t *frame) {
    struct gso_split gso;
    if (gso_split_begin(&gso, &vnet, frame, frame_length) != N_SEGMENTS)
        exit(EXIT_FAILURE);
    for (int i = 0; i < N_SEGMENTS; i++)
        gso_write_segment(&gso, i, segments + i * SEGMENT_SPACE);
}

static void copy_and_sum(const uint8_t *frame) {
    for (size_t i = 0; i < N_SEGMENTS; i++)
        sink += checksum_add_and_copy(0, frame + header_length + i * PAYLOAD, PAYLOAD,
                                      segments + i * SEGMENT_SPACE + header_length);
}

static void copy_then_sum(const uint8_t *frame) {
    for (size_t i = 0; i < N_SEGMENTS; i++) {
        uint8_t *segment = segments + i * SEGMENT_SPACE + header_length;
        memcpy(segment, frame + header_length + i * PAYLOAD, PAYLOAD);
        sink += checksum_add(0, segment, PAYLOAD);
    }
}

static void copy(const uint8_t *frame) {
    for (size_t i = 0; i < N_SEGMENTS; i++)
        memcpy(segments + i * SEGMENT_SPACE + header_length, frame + header_length + i * PAYLOAD,
               PAYLOAD);
}

static void sum(const uint8_t *frame) {
    for (size_t i = 0; i < N_SEGMENTS; i++)
        sink += checksum_add(0, frame + header_length + i * PAYLOAD, PAYLOAD);
}

/* -- measuring --------------------------------------------------------------------------------- */

typedef void work(const uint8_t *frame);

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(void) {
    static const struct kind kinds[] = {
        {"TCP/IPv4", 4, 0}, {"TCP/IPv6", 6, 0}, {"UDP/IPv4", 4, 1}, {"UDP/IPv6", 6, 1}};
    static work *const works[] = {split, copy_and_sum, copy_then_sum, copy, sum};
    enum { N_WORKS = sizeof works / sizeof works[0] };
    printf("|          | segment | its payload: copy and sum | copy, then sum | copy | sum |\n"
           "| -------- | ------- | ------------------------- | -------------- | ---- | --- |\n");
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        static double figures[N_WORKS][ROUNDS];
        for (size_t i = 0; i < N_FRAMES; i++)
            make_frame(frames + i * FRAME_SPACE, &kinds[k]);
        for (int round = 0; round < ROUNDS; round++)
            for (int w = 0; w < N_WORKS; w++) {
                double begin = cpu_ns();
                for (size_t i = 0; i < N_FRAMES; i++)
                    works[w](frames + i * FRAME_SPACE);
                figures[w][round] = (cpu_ns() - begin) / (N_FRAMES * N_SEGMENTS);
            }
        printf("| %s |", kinds[k].name);
        for (int w = 0; w < N_WORKS; w++) {
            qsort(figures[w], ROUNDS, sizeof figures[w][0], compare);
            printf(" %.0f |", figures[w][ROUNDS / 2]);
        }
        printf("\n");
    }
    return EXIT_SUCCESS;
}
