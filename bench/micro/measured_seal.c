/* A message sealed in place, or opened into another buffer; and a handshake message's mac1.
 *
 * Sealing goes on from what it sealed last, under a new counter each time. Opening takes the same
 * message again and again.
 */
#include <errno.h>
#include <string.h>

#include "session/mac.h"
#include "measured_subjects.h"
#include "session/aead.h"

enum {
    TEXT_MAX = 1 << 16,
    /* What a handshake initiation's mac1 covers, before the two macs (whitepaper 5.4.2). */
    MAC1_COVERS = 116,
};

static const uint8_t key_bytes[AEAD_KEY_SIZE] = {1, 2, 3};
static uint8_t text[TEXT_MAX + AEAD_TAG_SIZE], sealed[TEXT_MAX + AEAD_TAG_SIZE], opened[TEXT_MAX];
static struct aead_key *key;
static size_t length;
static uint64_t counter;

/* The opening side has a key of its own in a tunnel; to the library they are the same. */
int prepare_seal(size_t size, int kind) {
    if (size > TEXT_MAX)
        return -EINVAL;
    aead_key_free(key);
    aead_load_fastest();
    key = aead_key_new((enum aead)kind, key_bytes);
    if (key == NULL)
        return -errno;
    length = size;
    counter = 0;
    int n = seal_in_place(key, counter, sealed, length);
    return n < 0 ? n : 0;
}

uint64_t run_seal(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += seal_in_place(key, ++counter, text, length) == (int)length + AEAD_TAG_SIZE;
    return done;
}

uint64_t run_open(uint64_t n) {
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += open_into(key, 0, sealed, length + AEAD_TAG_SIZE, opened) == (int)length;
    return done;
}

/* -- mac1 -------------------------------------------------------------------------------------- */

/* Keyed BLAKE2s of 128 bits under key_bytes over MAC1_COVERS zeros (Python's hashlib). */
static const uint8_t mac1[MAC_LENGTH] = {0xd3, 0x7a, 0x33, 0xb5, 0xc2, 0x9c, 0xdb, 0x05,
                                         0x65, 0x46, 0xc8, 0x85, 0x98, 0xe7, 0xf6, 0xd2};
static struct mac_key *mac_key;

int prepare_mac(size_t size, int kind) {
    (void)size;
    (void)kind;
    mac_key_free(mac_key);
    mac_key = mac_key_new(key_bytes);
    return mac_key == NULL ? -errno : 0;
}

uint64_t run_mac(uint64_t n) {
    static const uint8_t initiation[MAC1_COVERS];
    uint64_t done = 0;
    for (uint64_t i = 0; i < n; i++)
        done += mac_is_valid(mac_key, initiation, sizeof initiation, mac1);
    return done;
}
