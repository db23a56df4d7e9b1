/* Padding comes off by the packet's own length. Every content is in memory of exactly its
 * size, so that ASan sees a byte read too far. */
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "packet/encapsulation.h"
#include "sealing.h"

enum { PACKET = 96 };

/* The frame's length, or minus the fault. */
static int decapsulate(const uint8_t *content, size_t length) {
    struct link_format format = sealed_format(MODE_TUN, true);
    struct message_inbound inbound;
    uint8_t *exact = malloc(length);
    CHECK(exact != NULL);
    memcpy(exact, content, length);
    enum message_fault fault = message_decapsulate(&format, exact, length, &inbound);
    free(exact);
    return fault == MESSAGE_OK ? (int)inbound.length : -(int)fault;
}

static void a_packet_cut_anywhere_is_read_no_further(void) {
    uint8_t packet[PACKET];
    for (size_t length = 1; length < PACKET; length++) {
        ipv4_make(packet, PACKET, 1, 2);
        CHECK_EQUAL(decapsulate(packet, length),
                    length < IPV4_HEADER_SIZE ? -MESSAGE_NOT_IP : (int)length);
        ipv6_make(packet, PACKET, 1, 2);
        CHECK_EQUAL(decapsulate(packet, length),
                    length < IPV6_HEADER_SIZE ? -MESSAGE_NOT_IP : (int)length);
    }
}

static void a_packet_that_claims_more_than_there_is_keeps_what_there_is(void) {
    uint8_t packet[PACKET];
    ipv4_make(packet, PACKET, 1, 2);
    be16_write(packet + 2, UINT16_MAX);
    CHECK_EQUAL(decapsulate(packet, PACKET), PACKET);
    ipv6_make(packet, PACKET, 1, 2);
    be16_write(packet + 4, UINT16_MAX);
    CHECK_EQUAL(decapsulate(packet, PACKET), PACKET);
}

static void what_is_behind_a_packet_of_either_version_comes_off(void) {
    uint8_t padded[PACKET + 15] = {0};
    ipv4_make(padded, PACKET, 1, 2);
    CHECK_EQUAL(decapsulate(padded, sizeof padded), PACKET);
    memset(padded, 0, sizeof padded);
    ipv6_make(padded, PACKET, 1, 2);
    CHECK_EQUAL(decapsulate(padded, sizeof padded), PACKET);
}

int main(void) {
    RUN(a_packet_cut_anywhere_is_read_no_further);
    RUN(a_packet_that_claims_more_than_there_is_keeps_what_there_is);
    RUN(what_is_behind_a_packet_of_either_version_comes_off);
    return EXIT_SUCCESS;
}
