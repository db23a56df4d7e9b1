/* gro_coalesce: what it costs a packet to be put together with others, or to find none.
 *
 *     cc -O2 -I../../csrc -o gro_coalesce gro_coalesce.c ../../csrc/packet/gro.c
 * ../../csrc/packet/checksum.c \
 *         ../../csrc/packet/vnet.c && ./gro_coalesce
 *
 * TCP over IPv4, 1,368 bytes of payload. "In a run": super-packets of 45, every checksum verified.
 * "Alone": none continues the one before, so each is looked at twice and let go. "Not a candidate":
 * a bare acknowledgement. The packets lie in a ring's worth of memory, which they pass through
 * again and again. CPU-ns a packet, median of ROUNDS.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/gro.h"

enum {
    ROUNDS = 31,
    N_PACKETS = 45 * 28,
    N_A_RUN = 45,
    HEADERS = 40,
    PAYLOAD = 1368,
    RECORD = 1472, /* with the ring's own header, at a multiple of 64 */
    TURNS = 40,
};

static uint8_t memory[N_PACKETS * RECORD];
static struct gro_group group;

static uint8_t *packet_at(size_t i) {
    return memory + i * RECORD;
}

/* A flow whose runs end after 45 packets, or whose packets all differ in acknowledgement. */
static void fill(size_t payload, size_t n_a_run) {
    for (size_t i = 0; i < N_PACKETS; i++) {
        uint8_t *ip = packet_at(i), *tcp = ip + 20;
        memset(ip, 0, HEADERS);
        for (size_t byte = 0; byte < payload; byte++)
            ip[HEADERS + byte] = (uint8_t)(i * 31 + byte * 7);
        memcpy(ip, (uint8_t[20]){0x45, [8] = 64, 6, [12] = 10, 9, 0, 2, 10, 9, 0, 1}, 20);
        be16_write(ip + 2, (uint16_t)(HEADERS + payload));
        be16_write(ip + 4, (uint16_t)i);
        be16_write(tcp + 4, (uint16_t)(i * payload >> 16));
        be16_write(tcp + 6, (uint16_t)(i * payload));
        be16_write(tcp + 10, (uint16_t)(i / n_a_run));
        tcp[12] = 5 << 4;
        tcp[13] = 0x10;
        checksum_write(ip + 10, checksum_add(0, ip, 20));
        uint64_t sum = checksum_pseudo_header(ip, 6, 20 + payload);
        checksum_write(tcp + 16, checksum_add(sum, tcp, 20 + payload));
    }
}

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* As the tun-writer does it, but for the write. Returns the number of frames. */
static size_t coalesce(size_t length) {
    size_t n_frames = 0;
    group.n_packets = 0;
    for (size_t i = 0; i < N_PACKETS; i++) {
        if (gro_extend(&group, packet_at(i), length))
            continue;
        if (group.n_packets > 1)
            gro_finish(&group);
        n_frames++;
        gro_begin(&group, packet_at(i), length, 0);
    }
    if (group.n_packets > 1)
        gro_finish(&group);
    return n_frames;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void measure(const char *name, size_t payload, size_t n_a_run) {
    double figures[ROUNDS];
    fill(payload, n_a_run);
    if (coalesce(HEADERS + payload) != N_PACKETS / n_a_run) {
        fprintf(stderr, "gro_coalesce: %s: other runs than expected\n", name);
        exit(EXIT_FAILURE);
    }
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_ns();
        for (int turn = 0; turn < TURNS; turn++)
            coalesce(HEADERS + payload);
        figures[round] = (cpu_ns() - begin) / (TURNS * N_PACKETS);
    }
    qsort(figures, ROUNDS, sizeof figures[0], compare);
    printf("| %-15s | %6.1f |\n", name, figures[ROUNDS / 2]);
}

int main(void) {
    printf("| packet          |     ns |\n| --------------- | ------ |\n");
    measure("in a run of 45", PAYLOAD, N_A_RUN);
    measure("in a run of 2", PAYLOAD, 2);
    measure("alone", PAYLOAD, 1);
    measure("not a candidate", 0, 1);
    return EXIT_SUCCESS;
}
