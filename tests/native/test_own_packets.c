/* Our own outer packets, led back into the device by a route: known by what no one else would
 * write, on TUN and TAP, IPv4 and IPv6, and dropped with a reason; all others pass. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "outbound/tun_reader.h"
#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "formats.h"
#include "frames.h"
#include "lanes.h"
#include "outbound/own_packets.h"
#include "sender.h"

enum { SLOT = 3, PAYLOAD = 48, OUTER_MAX = 200, N_PEERS = N_PEER_SLOTS };

/* An outer packet that carries a data message of `type` for `index`. */
struct outer {
    uint8_t bytes[OUTER_MAX];
    size_t length, ip, udp;
};

static struct outer make(enum mode mode, int version, size_t options, uint32_t type,
                         uint32_t index) {
    struct outer outer = {.ip = mode == MODE_TAP ? 14 : 0};
    uint8_t *ip = outer.bytes + outer.ip;
    outer.udp = outer.ip + (version == 4 ? 20 + options : 40);
    outer.length = outer.udp + 8 + PAYLOAD;
    if (mode == MODE_TAP)
        be16_write(outer.bytes + 12, version == 4 ? 0x0800 : 0x86dd);
    if (version == 4) {
        ip[0] = (uint8_t)(0x45 + options / 4);
        be16_write(ip + 2, (uint16_t)(outer.length - outer.ip));
        ip[9] = 17;
        be32_write(ip + 16, 0x0a000002);
    } else {
        ip[0] = 0x60;
        be16_write(ip + 4, (uint16_t)(outer.length - outer.ip - 40));
        ip[6] = 17;
        ip[24] = 0xfd;
    }
    le32_write(outer.bytes + outer.udp + 8, type);
    le32_write(outer.bytes + outer.udp + 12, index);
    return outer;
}

static struct loop *loop_of(enum mode mode) {
    sender_open(mode);
    return sender.worker.loop;
}

static unsigned open_link(enum mode mode) {
    unsigned slot = mode == MODE_TUN ? SLOT : 0;
    loop_of(mode);
    sender_attach(slot, sealed_format(mode, false));
    set_key(slot, AEAD_CHACHA20_POLY1305, 0);
    sender_allow_ten(slot);
    return slot;
}

static uint32_t index_of(unsigned slot) {
    return tun_reader_of(sender.worker.loop)->links[slot]->sending->receiver_index;
}

static bool has(const struct outer *outer) {
    uint8_t *exact = malloc(outer->length); /* for ASan */
    CHECK(exact != NULL);
    memcpy(exact, outer->bytes, outer->length);
    bool is_own = own_packets_has(tun_reader_of(sender.worker.loop), exact, outer->length);
    free(exact);
    return is_own;
}

static void what_we_have_sent_is_dropped_with_its_reason(void) {
    const enum mode modes[] = {MODE_TUN, MODE_TAP};
    for (int i = 0; i < 8; i++) {
        unsigned slot = open_link(modes[i % 2]);
        uint32_t type = i % 4 < 2 ? MESSAGE_DATA_CHACHA : MESSAGE_DATA_AES;
        struct outer own = make(modes[i % 2], i < 4 ? 4 : 6, 0, type, index_of(slot));
        struct outer other = make(modes[i % 2], i < 4 ? 4 : 6, 0, type, index_of(slot) + 1);
        give(own.bytes, own.length);
        give(other.bytes, other.length);
        sender_run();
        CHECK_EQUAL(sender_dropped(DROP_tun_reader_own_packet), 1);
        CHECK_EQUAL(sender_dropped_in_all(), 1);
        CHECK_EQUAL(sender_counter(COUNTER_packets), 2);
        sender_close();
    }
}

static void only_data_messages_on_udp_are_ours(void) {
    unsigned slot = open_link(MODE_TUN);
    struct outer own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, index_of(slot)), other = own;
    CHECK(has(&own));
    other.bytes[9] = 6; /* TCP */
    CHECK(!has(&other));
    other = own;
    other.bytes[7] = 1; /* a later fragment */
    CHECK(!has(&other));
    other.bytes[7] = 0;
    other.bytes[6] = 0x20; /* the first one */
    CHECK(has(&other));
    for (uint32_t type = 0; type < 8; type++) {
        other = make(MODE_TUN, 4, 0, type, index_of(slot));
        CHECK_EQUAL(has(&other), type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES);
    }
    other = make(MODE_TUN, 6, 0, MESSAGE_DATA_CHACHA, index_of(slot));
    CHECK(has(&other));
    other.bytes[6] = 6;
    CHECK(!has(&other));
    other = make(MODE_TUN, 4, 40, MESSAGE_DATA_CHACHA, index_of(slot));
    CHECK(has(&other));
    sender_close();
}

/* The kernel's, of a datagram that may be fragmented: the first one has UDP's header. */
static void a_fragment_header_of_ipv6_hides_nothing(void) {
    unsigned slot = open_link(MODE_TUN);
    struct outer own = make(MODE_TUN, 6, 0, MESSAGE_DATA_CHACHA, index_of(slot)), other;
    memmove(own.bytes + 48, own.bytes + 40, own.length - 40);
    memset(own.bytes + 40, 0, 8);
    own.length += 8;
    own.bytes[6] = 44;
    own.bytes[40] = 17;
    own.bytes[43] = 1; /* more follow */
    CHECK(has(&own));
    other = own;
    other.bytes[42] = 1; /* a later one */
    CHECK(!has(&other));
    other = own;
    other.bytes[43] = 9;
    CHECK(!has(&other));
    other = own;
    other.bytes[40] = 6; /* TCP */
    CHECK(!has(&other));
    for (size_t length = 0; length < own.length; length++) {
        other = own;
        other.length = length;
        CHECK_EQUAL(length > 0 && has(&other), length >= 48 + 8 + DATA_HEADER);
    }
    sender_close();
}

static void a_vlan_tag_hides_nothing(void) {
    unsigned slot = open_link(MODE_TAP);
    struct outer own = make(MODE_TAP, 4, 0, MESSAGE_DATA_CHACHA, index_of(slot));
    memmove(own.bytes + 18, own.bytes + 14, own.length - 14);
    be16_write(own.bytes + 12, 0x8100);
    be16_write(own.bytes + 16, 0x0800);
    own.length += 4;
    CHECK(has(&own));
    be16_write(own.bytes + 16, 0x0806);
    CHECK(!has(&own));
    sender_close();
}

static void a_key_that_is_gone_is_not_ours(void) {
    unsigned slot = open_link(MODE_TUN);
    struct outer own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, index_of(slot));
    CHECK(has(&own));
    set_session(slot, AEAD_CHACHA20_POLY1305, 1, 0, UINT64_MAX);
    CHECK(!has(&own));
    own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, index_of(slot));
    CHECK(has(&own));
    loop_forget_sending_key(sender.worker.loop, slot);
    CHECK(!has(&own));
    set_session(slot, AEAD_CHACHA20_POLY1305, 1, 0, UINT64_MAX);
    CHECK(has(&own));
    loop_detach_link(sender.worker.loop, slot);
    CHECK(!has(&own));
    sender_close();
}

/* The kernel gives a frame to any queue: what lane 1 has sealed may come back to lane 0. */
static void what_another_lane_has_sealed_is_ours_as_long_as_it_is_said(void) {
    enum { N_SLOTS = 64 };
    struct outer own;
    sender_open_lane(0);
    struct loop *loop = sender.worker.loop;
    for (uint32_t slot = 0; slot < N_SLOTS; slot++)
        CHECK_EQUAL(loop_set_sealed_for(loop, slot, (const uint32_t[]){slot, ~slot}, 2), 0);
    for (uint32_t slot = 0; slot < 2 * N_SLOTS; slot++) {
        own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, slot);
        CHECK_EQUAL(has(&own), slot < N_SLOTS);
        own = make(MODE_TUN, 6, 0, MESSAGE_DATA_AES, ~slot);
        CHECK_EQUAL(has(&own), slot < N_SLOTS);
    }
    CHECK_EQUAL(loop_set_sealed_for(loop, 0, (const uint32_t[]){7777}, 1), 0);
    own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, 0);
    CHECK(!has(&own));
    own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, 7777);
    CHECK(has(&own));
    CHECK_EQUAL(loop_set_sealed_for(loop, 0, NULL, 0), 0);
    CHECK(!has(&own));
    CHECK_EQUAL(loop_set_sealed_for(loop, 0, (const uint32_t[3]){0}, 3), -EINVAL);
    CHECK_EQUAL(loop_set_sealed_for(loop, N_PEER_SLOTS, NULL, 0), -EINVAL);
    sender_close();
    open_link(MODE_TUN);
    CHECK_EQUAL(loop_set_sealed_for(sender.worker.loop, 0, NULL, 0), -EINVAL);
    sender_close();
}

static void sessions_without_end_leave_nothing(void) {
    unsigned slot = open_link(MODE_TUN);
    for (unsigned session = 0; session < 5000; session++) {
        set_session(slot, AEAD_CHACHA20_POLY1305, session, 0, UINT64_MAX);
        struct outer own = make(MODE_TUN, 4, 0, MESSAGE_DATA_CHACHA, index_of(slot));
        CHECK(has(&own));
    }
    sender_close();
}

static void the_indices_of_all_peers_are_found_also_when_they_are_alike(void) {
    const uint8_t key[32] = {1};
    struct link_format format = sealed_format(MODE_TUN, false);
    loop_of(MODE_TUN);
    for (unsigned slot = 0; slot < N_PEERS; slot++) {
        CHECK_EQUAL(loop_attach_link(sender.worker.loop, slot, slot, -1, &format), 0);
        CHECK_EQUAL(key_use_for_sending(sender.worker.loop, slot, AEAD_CHACHA20_POLY1305, key,
                                        slot / 2 * 4096, &(struct counter_source){0}, UINT64_MAX),
                    0);
    }
    for (uint32_t index = 0; index < N_PEERS / 2 * 4096; index += 1024) {
        struct outer outer = make(MODE_TUN, 4, 0, MESSAGE_DATA_AES, index);
        CHECK_EQUAL(has(&outer), index % 4096 == 0);
    }
    sender_close();
}

/* Whatever comes from the device is read within its bounds. */
static void any_frame_cut_anywhere_is_looked_at_within_its_bounds(void) {
    struct random random = {77};
    for (int round = 0; round < 4000; round++) {
        enum mode mode = round % 2 == 0 ? MODE_TUN : MODE_TAP;
        if (round < 2 || round % 500 < 2) {
            if (round > 0)
                sender_close();
            open_link(mode);
        }
        sender.worker.loop->mode = mode;
        uint32_t index =
            tun_reader_of(sender.worker.loop)->links[0] != NULL ? index_of(0) : index_of(SLOT);
        struct outer outer = make(mode, round % 4 < 2 ? 4 : 6, 4 * random_below(&random, 11),
                                  MESSAGE_DATA_CHACHA, index);
        outer.bytes[random_below(&random, outer.length)] = (uint8_t)random_next(&random);
        outer.length = 1 + random_below(&random, outer.length);
        has(&outer);
    }
    sender_close();
}

int main(void) {
    RUN(what_we_have_sent_is_dropped_with_its_reason);
    RUN(only_data_messages_on_udp_are_ours);
    RUN(a_fragment_header_of_ipv6_hides_nothing);
    RUN(a_vlan_tag_hides_nothing);
    RUN(a_key_that_is_gone_is_not_ours);
    RUN(what_another_lane_has_sealed_is_ours_as_long_as_it_is_said);
    RUN(sessions_without_end_leave_nothing);
    RUN(the_indices_of_all_peers_are_found_also_when_they_are_alike);
    RUN(any_frame_cut_anywhere_is_looked_at_within_its_bounds);
    return EXIT_SUCCESS;
}
