/* Any bytes as the packet that cannot go on: an answer is right in every byte, and none goes to an
 * error or a later fragment. The first byte says whether the length field is put right (else few
 * inputs are whole packets), how much room the answer has, and whether the packet is too big or for
 * no peer. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/icmp.h"
#include "icmp_answer.h"

static void put_length_right(uint8_t *packet, size_t length) {
    if (length >= 20 && packet[0] >> 4 == 4) {
        packet[2] = (uint8_t)(length >> 8);
        packet[3] = (uint8_t)length;
    } else if (length >= 40) {
        packet[4] = (uint8_t)((length - 40) >> 8);
        packet[5] = (uint8_t)(length - 40);
    }
}

static void check_may_be_answered(const uint8_t *packet) {
    if (packet[0] >> 4 == 4) {
        size_t header = (packet[0] & 15u) * 4u;
        FUZZ_CHECK((packet[6] & 0x1f) == 0 && packet[7] == 0);
        if (packet[9] == 1) /* unreachable, quench, redirect, exceeded, parameter problem */
            FUZZ_CHECK(strchr("\x03\x04\x05\x0b\x0c", packet[header]) == NULL ||
                       packet[header] == 0);
        return;
    }
    if (packet[6] == 58)
        FUZZ_CHECK(packet[40] >= 128 && packet[40] != 137);
    if (packet[6] == 44)
        FUZZ_CHECK(packet[42] == 0 && packet[43] < 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 65536)
        return 0;
    size_t length = size - 1, answer_max = (data[0] & 2) != 0 ? data[0] * 6u : ICMP_ANSWER_MAX;
    uint8_t *packet = malloc(length), *answer = malloc(answer_max); /* exact, for ASan */
    if (length == 0 || packet == NULL || answer == NULL) {
        free(packet);
        free(answer);
        return 0;
    }
    memcpy(packet, data + 1, length);
    if ((data[0] & 1) != 0)
        put_length_right(packet, length);
    unsigned mtu = (data[0] & 4) != 0 ? data[0] * 100u : 0;
    size_t answered = mtu == 0 ? icmp_unreachable(packet, length, answer, answer_max)
                               : icmp_too_big(packet, length, mtu, answer, answer_max);
    if (answered != 0) {
        FUZZ_CHECK(icmp_answer_fault(packet, answer, answered, answer_max, mtu) == NULL);
        check_may_be_answered(packet);
        /* an answer is an error itself, and answers to it would go on for ever */
        FUZZ_CHECK(icmp_unreachable(answer, answered, packet, length) == 0);
    }
    free(packet);
    free(answer);
    return 0;
}
