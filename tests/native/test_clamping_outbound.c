/* What TCP may send, lowered where a SYN goes into the tunnel. test_mss.c has the SYNs. */
#define _GNU_SOURCE
#include "clamped_syn.h"
#include "formats.h"
#include "sender.h"

enum { SLOT = 0, TO = 0x0a000002 };

/* The SYN goes out behind that offload header; returns the message's content. */
static const uint8_t *pass(enum mode mode, size_t mtu, size_t packet_max, const struct vnet *vnet) {
    uint8_t frame[VNET_LENGTH + SYN_LENGTH];
    sender_open(mode);
    sender_attach(SLOT, sealed_format(mode, true));
    set_key(SLOT, AEAD_CHACHA20_POLY1305, 0);
    sender_allow_ten(SLOT);
    loop_clamp_mss(sender.worker.loop, mtu);
    loop_set_packet_max(sender.worker.loop, SLOT, packet_max, 0);
    make_syn(US, TO);
    vnet_write(vnet, frame);
    memcpy(frame + VNET_LENGTH, syn, SYN_LENGTH);
    give_frame(frame, sizeof frame);
    sender_run();
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    return opened.content;
}

static const struct vnet plain;

static void a_packet_is_lowered_to_the_devices_mtu_if_that_is_asked_for(void) {
    check_syn(pass(MODE_TUN, MTU, 0, &plain), MTU - HEADERS, true);
    sender_close();
    check_syn(pass(MODE_TUN, 0, 0, &plain), OFFERED, false);
    sender_close();
}

static void a_path_counts_where_it_is_narrower(void) {
    check_syn(pass(MODE_TUN, MTU, MTU - 1, &plain), MTU - 1 - HEADERS, true);
    sender_close();
    check_syn(pass(MODE_TUN, MTU, MTU + 1, &plain), MTU - HEADERS, true);
    sender_close();
}

static void a_checksum_that_is_still_to_be_made_is_left(void) {
    const uint8_t *content = pass(MODE_TUN, MTU, 0, &unfinished);
    check_syn(content + MESSAGE_TYPE_LENGTH + VNET_LENGTH, MTU - HEADERS, false);
    sender_close();
}

/* Its bytes are those of a SYN, but it is none. */
static void an_ethernet_frame_passes_as_it_is(void) {
    check_syn(pass(MODE_TAP, MTU, 0, &plain) + MESSAGE_TYPE_LENGTH, OFFERED, false);
    sender_close();
}

int main(void) {
    RUN(a_packet_is_lowered_to_the_devices_mtu_if_that_is_asked_for);
    RUN(a_path_counts_where_it_is_narrower);
    RUN(a_checksum_that_is_still_to_be_made_is_left);
    RUN(an_ethernet_frame_passes_as_it_is);
    return EXIT_SUCCESS;
}
