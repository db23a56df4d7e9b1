/* ECN outbound: the codepoint goes from the packet's header to its record, and from there to the
 * header of the train; a standing queue marks before it drops. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "datagram_peers.h"
#include "host/udp_address.h"
#include "outbound/codel.h"
#include "packet/ecn.h"
#include "split_link.h"

enum { PEER = 0x0a000002, TAGGED = 4 /* bytes of a VLAN tag */ };

/* -- into the record --------------------------------------------------------------------------- */

static const struct ring_view *next_record(void) {
    bool corrupt = false;
    return ring_peek(sender.lane.ring, &cursor, &corrupt);
}

static void give_bare(unsigned version, unsigned codepoint) {
    uint8_t packet[PACKET];
    if (version == 4)
        ipv4_make(packet, PACKET, US, PEER);
    else
        ipv6_make(packet, PACKET, US, PEER);
    packet[1] = (uint8_t)(packet[1] | (version == 4 ? codepoint : codepoint << 4));
    give(packet, PACKET);
}

static void give_in_tagged_frame(unsigned codepoint) {
    uint8_t bytes[VNET_LENGTH + ETHERNET_HEADER_SIZE + TAGGED + PACKET] = {0};
    uint8_t *frame = bytes + VNET_LENGTH, *packet = frame + ETHERNET_HEADER_SIZE + TAGGED;
    be16_write(frame + 12, ETHERNET_TYPE_VLAN);
    be16_write(frame + 16, ETHERNET_TYPE_IPV4);
    ipv4_make(packet, PACKET, US, PEER);
    packet[1] = (uint8_t)codepoint;
    give_frame(bytes, sizeof bytes);
}

static void a_packets_codepoint_is_its_records_whole_or_split(void) {
    struct super_packet_shape shape = tcp4(1000, 10000);
    uint8_t bytes[VNET_LENGTH + 11000];
    open_link(datagram_format(MTU), AEAD_CHACHA20_POLY1305);
    sender_allow_ten(SLOT);
    for (unsigned codepoint = 0; codepoint <= ECN_CE; codepoint++) {
        give_bare(4, codepoint);
        give_bare(6, codepoint);
        super_packet_make(&given[0].frame, &noise, &shape);
        given[0].frame.bytes[1] = (uint8_t)(0x88 | codepoint);
        vnet_write(&given[0].frame.vnet, bytes);
        memcpy(bytes + VNET_LENGTH, given[0].frame.bytes, given[0].frame.length);
        give_frame(bytes, VNET_LENGTH + given[0].frame.length);
        sender_run();
        for (uint32_t n_packets = 0; n_packets < 12; n_packets += opened.record->n_packets) {
            opened.record = next_record();
            CHECK(opened.record != NULL);
            CHECK_EQUAL(opened.record->ecn, codepoint);
        }
        sender_release();
    }
    sender_close();
}

static void so_is_that_of_a_packet_in_an_ethernet_frame_behind_a_tag(void) {
    struct link_format format = sealed_format(MODE_TAP, false);
    format.is_datagram = true;
    open_link(format, AEAD_CHACHA20_POLY1305);
    for (unsigned codepoint = 0; codepoint <= ECN_CE; codepoint++) {
        give_in_tagged_frame(codepoint);
        sender_run();
        opened.record = next_record();
        CHECK(opened.record != NULL);
        CHECK_EQUAL(opened.record->ecn, codepoint);
    }
    sender_close();
}

/* -- a queue that stays long ------------------------------------------------------------------- */

static void a_standing_queue_marks_what_is_capable_and_drops_the_rest(void) {
    const unsigned codepoints[] = {ECN_ECT_0, ECN_ECT_1, ECN_CE, ECN_NOT_ECT};
    for (unsigned i = 0; i < 4; i++) {
        bool is_capable = codepoints[i] != ECN_NOT_ECT;
        open_link(datagram_format(MTU), AEAD_CHACHA20_POLY1305);
        sender_allow_ten(SLOT);
        peer_set(&sender.lane.peers->by_link_writer[SLOT].waiting_since_ns,
                 clock_now_ns() - CODEL_TARGET_NS * 2);
        give_bare(4, codepoints[i]);
        sender_run();
        CHECK_EQUAL(sender_counter(COUNTER_ecn_marked), 0);
        usleep(CODEL_INTERVAL_NS / 1000);
        give_bare(4, codepoints[i]);
        sender_run();
        CHECK_EQUAL(sender_dropped(DROP_tun_reader_queue_delay), !is_capable);
        CHECK_EQUAL(sender_counter(COUNTER_ecn_marked), is_capable);
        CHECK_EQUAL(next_record()->ecn, codepoints[i]);
        opened.record = next_record();
        CHECK_EQUAL(opened.record != NULL, is_capable);
        if (is_capable)
            CHECK_EQUAL(opened.record->ecn, ECN_CE);
        if (is_capable) {
            open_message(AEAD_CHACHA20_POLY1305, true, opened.record->payload,
                         opened.record->length);
            CHECK_EQUAL(opened.content[1], ECN_CE);
        }
        sender_close();
    }
}

/* -- into the train ---------------------------------------------------------------------------- */

static void receive_classes(unsigned slot, int family) {
    int on = 1, fd = datagram_peers.peers[slot].fd;
    if (family == AF_INET)
        CHECK_EQUAL(setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on), 0);
    else
        CHECK_EQUAL(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on), 0);
}

/* One train: so many bytes under that codepoint. */
static void check_train(unsigned slot, size_t n_bytes, unsigned codepoint) {
    static uint8_t bytes[65536];
    struct envelope envelope;
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = envelope.control,
                             .msg_controllen = sizeof envelope.control};
    CHECK_EQUAL(recvmsg(datagram_peers.peers[slot].fd, &message, 0), n_bytes);
    CHECK_EQUAL(udp_address_read_class(&message), codepoint);
}

static void commit(unsigned slot, unsigned n, unsigned codepoint) {
    datagrams_commit(slot, n, 500, 500)->ecn = codepoint;
}

static void a_train_ends_where_the_codepoint_changes(void) {
    const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 4; i++) {
        bool has_offload = i < 2;
        datagram_peers_open(families[i % 2], has_offload);
        receive_classes(0, families[i % 2]);
        commit(0, 3, ECN_ECT_0);
        commit(0, 1, ECN_ECT_0);
        commit(0, 2, ECN_CE);
        commit(0, 1, ECN_NOT_ECT);
        commit(0, 1, ECN_ECT_1 | 0xf0); /* of shared memory no more is used than there are bits */
        datagram_peers_run();
        const unsigned counts[] = {4, 2, 1, 1};
        const unsigned codepoints[] = {ECN_ECT_0, ECN_CE, ECN_NOT_ECT, ECN_ECT_1};
        for (int train = 0; train < 4; train++)
            for (unsigned n = 0; n < (has_offload ? 1 : counts[train]); n++)
                check_train(0, has_offload ? counts[train] * 500 : 500, codepoints[train]);
        CHECK_EQUAL(stats_read_call(datagram_peers.lane.stats, ROLE_link_writer, CALL_sendmmsg) > 0,
                    true);
        datagram_peers_check_balance();
        datagram_peers_close();
    }
}

int main(void) {
    RUN(a_packets_codepoint_is_its_records_whole_or_split);
    RUN(so_is_that_of_a_packet_in_an_ethernet_frame_behind_a_tag);
    RUN(a_standing_queue_marks_what_is_capable_and_drops_the_rest);
    RUN(a_train_ends_where_the_codepoint_changes);
    return EXIT_SUCCESS;
}
