#include "packet/ecn.h"

#include "packet/checksum.h"

enum { IPV6_ECN_SHIFT = 4 }; /* within the byte of IPV6_CLASS_OFFSET */

/* NULL: none. A TUN frame is one. */
static const uint8_t *find_ip(enum mode mode, const uint8_t *frame, size_t length) {
    if (mode == MODE_TUN)
        return frame;
    size_t at = ethernet_find_ip(frame, length);
    return at > 0 ? frame + at : NULL;
}

static enum ecn read_ecn(const uint8_t *packet) {
    if (ip_version(packet) == 4)
        return packet[IPV4_TOS_OFFSET] & ECN_MASK;
    return packet[IPV6_CLASS_OFFSET] >> IPV6_ECN_SHIFT & ECN_MASK;
}

/* The checksum is changed, not made (RFC 1624), so that one that was wrong stays wrong. */
static void write4(uint8_t *packet, enum ecn ecn) {
    uint16_t word, checksum;
    memcpy(&word, packet, sizeof word); /* the TOS is in the header's first one */
    memcpy(&checksum, packet + IPV4_CHECKSUM_OFFSET, sizeof checksum);
    uint64_t sum = (uint64_t)(uint16_t)~checksum + (uint16_t)~word;
    packet[IPV4_TOS_OFFSET] = (uint8_t)((packet[IPV4_TOS_OFFSET] & ~ECN_MASK) | (int)ecn);
    memcpy(&word, packet, sizeof word);
    checksum_write(packet + IPV4_CHECKSUM_OFFSET, sum + word);
}

static void write6(uint8_t *packet, enum ecn ecn) {
    uint8_t *byte = packet + IPV6_CLASS_OFFSET;
    *byte = (uint8_t)((*byte & ~(ECN_MASK << IPV6_ECN_SHIFT)) | (int)ecn << IPV6_ECN_SHIFT);
}

static void write_ecn(uint8_t *packet, enum ecn ecn) {
    if (ip_version(packet) == 4)
        write4(packet, ecn);
    else
        write6(packet, ecn);
}

enum ecn ecn_of_frame(enum mode mode, const uint8_t *frame, size_t length) {
    const uint8_t *packet = find_ip(mode, frame, length);
    return packet == NULL ? ECN_NOT_ECT : read_ecn(packet);
}

bool ecn_mark(enum mode mode, uint8_t *frame, size_t length) {
    return ecn_of_frame(mode, frame, length) != ECN_NOT_ECT &&
           ecn_combine(mode, frame, length, ECN_CE);
}

/* RFC 6040 figure 4. What is not IP has no sender that could be informed, and passes. */
bool ecn_combine(enum mode mode, uint8_t *frame, size_t length, enum ecn outer) {
    uint8_t *packet = (uint8_t *)(uintptr_t)find_ip(mode, frame, length);
    if (packet == NULL || outer == ECN_NOT_ECT || outer == ECN_ECT_0)
        return true;
    enum ecn inner = read_ecn(packet);
    if (inner == ECN_NOT_ECT)
        return outer != ECN_CE;
    if (inner != ECN_CE && inner != outer)
        write_ecn(packet, outer);
    return true;
}
