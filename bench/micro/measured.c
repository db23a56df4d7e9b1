/* The table of subjects, and the two loops that their times are compared with. */
#include "measured.h"

#include <gcrypt.h>
#include <string.h>

#include "measured_subjects.h"
#include "session/aead.h"

/* -- calibration ------------------------------------------------------------------------------- */

enum { CHAIN_STEPS = 256, COPY = 1 << 16, APART = 2048 };

static volatile uint64_t chain = 1;
static uint8_t copied[COPY + APART], copy[COPY + APART];

static int prepare_nothing(size_t size, int kind) {
    (void)size;
    (void)kind;
    return 0;
}

/* Each step waits for the one before it, so this is the processor's clock and nothing else. */
static uint64_t run_chain(uint64_t n) {
    uint64_t value = chain;
    for (uint64_t i = 0; i < n * CHAIN_STEPS; i++)
        value = value * 6364136223846793005u + 1442695040888963407u;
    chain = value;
    return n;
}

/* From the second-level cache to there. Source and destination are APART modulo the page size:
 * else loads would be taken to wait for the stores at the same offset. */
static uint64_t run_copy(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        memcpy(copy + APART, copied, COPY);
        keep(copy);
    }
    return n;
}

const struct subject calibrations[] = {
    {"cpu", "cpu", 0, prepare_nothing, run_chain, CHAIN_STEPS, 0},
    {"memory", "memory", COPY, prepare_nothing, run_copy, COPY, 0},
    {0},
};

/* -- subjects ---------------------------------------------------------------------------------- */

#define SEAL_AND_OPEN(cipher, aead, size)                                                          \
    {"seal-" cipher "-" #size, "cpu", size, prepare_seal, run_seal, size, aead}, {                 \
        "open-" cipher "-" #size, "cpu", size, prepare_seal, run_open, size, aead                  \
    }

enum { SUPER_PAYLOAD = N_SEGMENTS * SEGMENT_PAYLOAD };

const struct subject subjects[] = {
    {"ring-64", "cpu", 64, prepare_ring, run_ring, 64, 0},
    {"ring-1500", "memory", 1500, prepare_ring, run_ring, 1500, 0},
    {"ring-65536", "memory", 65536, prepare_ring, run_ring, 65536, 0},

    {"encapsulate-packet", "cpu", 0, prepare_packet, run_encapsulate, 0, 4},
    {"encapsulate-super", "cpu", 0, prepare_super, run_encapsulate, 0, 4},
    {"decapsulate-packet", "cpu", 0, prepare_packet, run_decapsulate, 0, 4},
    {"decapsulate-super", "cpu", 0, prepare_super, run_decapsulate, 0, 4},
    {"vnet-check-ipv4", "cpu", 0, prepare_super, run_vnet_check, 0, 4},
    {"vnet-check-ipv6", "cpu", 0, prepare_super, run_vnet_check, 0, 6},
    {"icmp-too-big-ipv4", "cpu", 0, prepare_packet, run_icmp_too_big, 0, 4},
    {"icmp-too-big-ipv6", "cpu", 0, prepare_packet, run_icmp_too_big, 0, 6},

    SEAL_AND_OPEN("chacha20", AEAD_CHACHA20_POLY1305, 64),
    SEAL_AND_OPEN("chacha20", AEAD_CHACHA20_POLY1305, 1436),
    SEAL_AND_OPEN("chacha20", AEAD_CHACHA20_POLY1305, 65536),
    SEAL_AND_OPEN("aes", AEAD_AES_256_GCM, 64),
    SEAL_AND_OPEN("aes", AEAD_AES_256_GCM, 1436),
    SEAL_AND_OPEN("aes", AEAD_AES_256_GCM, 65536),
    {"mac1", "cpu", 0, prepare_mac, run_mac, 0, 0},

    {"checksum-1420", "cpu", 1420, prepare_checksum, run_checksum, 1420, 0},
    {"checksum-65000", "cpu", 65000, prepare_checksum, run_checksum, 65000, 0},
    {"split-ipv4", "memory", SUPER_PAYLOAD, prepare_split, run_split, 0, 4},
    {"split-ipv6", "memory", SUPER_PAYLOAD, prepare_split, run_split, 0, 6},
    {"coalesce-ipv4", "cpu", SUPER_PAYLOAD, prepare_coalesce, run_coalesce, 0, 4},
    {"coalesce-ipv6", "cpu", SUPER_PAYLOAD, prepare_coalesce, run_coalesce, 0, 6},

    {"allowed-ips-10", "cpu", 0, prepare_allowedips, run_allowedips, 10, 4},
    {"allowed-ips-1000", "cpu", 0, prepare_allowedips, run_allowedips, 1000, 4},
    {"allowed-ips-10000", "cpu", 0, prepare_allowedips, run_allowedips, 10000, 4},
    {"allowed-ips-10000-ipv6", "cpu", 0, prepare_allowedips, run_allowedips, 10000, 6},
    {"replay-in-order", "cpu", 0, prepare_replay, run_replay_in_order, 0, 0},
    {"replay-shuffled", "cpu", 0, prepare_replay, run_replay_shuffled, 0, 0},
    {0},
};

const char *measured_libgcrypt_version(void) {
    return aead_init() == 0 ? gcry_check_version(NULL) : "";
}
