/* measured_subjects: what the files beside it offer to the table in measured.c. */
#ifndef FASTUN_MEASURED_SUBJECTS_H
#define FASTUN_MEASURED_SUBJECTS_H

#include "measured.h"
#include "super_packet.h"

/* Super-packets of 45 packets that are 1,420 bytes long over IPv4, the MTU inside a tunnel. */
enum { N_SEGMENTS = 45, SEGMENT_PAYLOAD = 1368, TCP_TIMESTAMPS = 12 };

static inline void make_tcp_super_packet(struct super_packet *packet, int version) {
    struct random random = {1};
    const struct super_packet_shape shape = {
        .version = version,
        .tcp_options = TCP_TIMESTAMPS,
        .tcp_flags = SUPER_PACKET_ACK,
        .size = SEGMENT_PAYLOAD,
        .payload = (size_t)N_SEGMENTS * SEGMENT_PAYLOAD,
    };
    super_packet_make(packet, &random, &shape);
}

/* The bytes count as read: the compiler must write them although nothing does. */
static inline void keep(const void *bytes) {
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

subject_prepare prepare_ring;
subject_run run_ring;

subject_prepare prepare_super, prepare_packet;
subject_run run_encapsulate, run_decapsulate, run_vnet_check, run_icmp_too_big;

subject_prepare prepare_seal, prepare_mac;
subject_run run_seal, run_open, run_mac;

subject_prepare prepare_checksum, prepare_split, prepare_coalesce;
subject_run run_checksum, run_split, run_coalesce;

subject_prepare prepare_allowedips, prepare_replay;
subject_run run_allowedips, run_replay_in_order, run_replay_shuffled;

#endif
