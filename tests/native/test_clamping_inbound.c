/* What TCP may send, lowered where a SYN comes out of the tunnel. test_mss.c has the SYNs. */
#define _GNU_SOURCE
#include "clamped_syn.h"
#include "sealed_link.h"

/* The content comes to the device as one frame; returns where its packet would be. */
static const uint8_t *pass(enum mode mode, size_t mtu, const uint8_t *content, size_t length) {
    bool corrupt = false;
    reader_open_mode(AEAD_CHACHA20_POLY1305, mode);
    add_key(KEY, INDEX, 1);
    loop_clamp_mss(reader.loop, mtu);
    send_content(1, content, length);
    check_counts(1, NO_DROP, 0);
    uint64_t first = ring_first(reader.lane.ring);
    return ring_peek(reader.lane.ring, &first, &corrupt)->payload + VNET_LENGTH;
}

static void a_packet_is_lowered_to_the_devices_mtu_if_that_is_asked_for(void) {
    make_syn(PEER_ADDRESS, OUR_ADDRESS);
    check_syn(pass(MODE_TUN, MTU, syn, SYN_LENGTH), MTU - HEADERS, true);
    reader_close();
    check_syn(pass(MODE_TUN, 0, syn, SYN_LENGTH), OFFERED, false);
    reader_close();
}

static void a_checksum_that_is_still_to_be_made_is_left(void) {
    uint8_t content[MESSAGE_TYPE_LENGTH + VNET_LENGTH + SYN_LENGTH] = {MESSAGE_SUPER};
    make_syn(PEER_ADDRESS, OUR_ADDRESS);
    vnet_write(&unfinished, content + MESSAGE_TYPE_LENGTH);
    memcpy(content + MESSAGE_TYPE_LENGTH + VNET_LENGTH, syn, SYN_LENGTH);
    check_syn(pass(MODE_TUN, MTU, content, sizeof content), MTU - HEADERS, false);
    reader_close();
}

/* Its bytes are those of a SYN, but it is none. */
static void an_ethernet_frame_passes_as_it_is(void) {
    uint8_t content[MESSAGE_TYPE_LENGTH + SYN_LENGTH] = {MESSAGE_ETHERNET};
    make_syn(PEER_ADDRESS, OUR_ADDRESS);
    memcpy(content + MESSAGE_TYPE_LENGTH, syn, SYN_LENGTH);
    check_syn(pass(MODE_TAP, MTU, content, sizeof content), OFFERED, false);
    reader_close();
}

int main(void) {
    RUN(a_packet_is_lowered_to_the_devices_mtu_if_that_is_asked_for);
    RUN(a_checksum_that_is_still_to_be_made_is_left);
    RUN(an_ethernet_frame_passes_as_it_is);
    return EXIT_SUCCESS;
}
