/* Any bytes as a super-packet, behind the offload header that vnet_check let pass: what is cut
 * stays inside its bounds and is what the long way makes of it. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/gso.h"
#include "super_packet.h"

static struct super_packet packet;
static uint8_t expected[SUPER_PACKET_MAX];

/* Where the headers of a packet that can be cut begin; the pseudo-header's sum is put right. */
static void find_headers(void) {
    packet.ip = packet.vnet.ip_start;
    packet.transport = packet.vnet.csum_start;
    packet.header = packet.vnet.hdr_len;
    super_packet_leave_sum(&packet);
}

static void check_segment(const struct gso_split *split, int i) {
    size_t length = gso_segment_length(split, i);
    uint8_t *written = malloc(length); /* exact, for ASan */
    if (written == NULL)
        return;
    gso_write_segment(split, i, written);
    FUZZ_CHECK(length == super_packet_segment(&packet, (size_t)i, expected));
    FUZZ_CHECK(memcmp(written, expected, length) == 0);
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gso_split split;
    if (size < 1 + VNET_LENGTH + 1 || size - 1 - VNET_LENGTH > SUPER_PACKET_MAX)
        return 0;
    packet.length = size - 1 - VNET_LENGTH;
    packet.l3 = fuzz_format(data[0]).mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0;
    packet.vnet = vnet_read(data + 1);
    memcpy(packet.bytes, data + 1 + VNET_LENGTH, packet.length);
    int n_packets = vnet_check(&packet.vnet, packet.bytes, packet.length, packet.l3);
    if (n_packets < 0 || packet.vnet.gso_type == VNET_GSO_NONE)
        return 0;
    find_headers();
    uint8_t *frame = malloc(packet.length);
    if (frame == NULL)
        return 0;
    memcpy(frame, packet.bytes, packet.length);
    int n = gso_split_begin(&split, &packet.vnet, frame, packet.length);
    FUZZ_CHECK(n == n_packets);
    for (int i = 0; i < n; i++)
        check_segment(&split, i);
    free(frame);
    return 0;
}
