/* The link-reader on the sealed wire, before a peer that is the one it says it is, and before one
 * that is not: what is tampered with, sent again, or sent under another's address goes nowhere, and
 * is counted under its one reason. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "sealed_link.h"

/* -- tampering --------------------------------------------------------------------------------- */

static unsigned reason_of_bit(size_t bit) {
    if (bit < 32)
        return DROP_link_reader_bad_type;
    if (bit < 64)
        return DROP_link_reader_unknown_index;
    return DROP_link_reader_bad_tag;
}

static void every_tampered_bit_is_dropped_with_its_reason_and_the_next_one_passes(void) {
    for (size_t bit = 0; bit < 8 * (DATA_MESSAGE_MIN + PACKET); bit++) {
        reader_open(aeads[bit % 2]);
        send_good(0);
        make_packet(KEY, INDEX, 1);
        sealed.bytes[STREAM_LENGTH_PREFIX + bit / 8] ^= (uint8_t)(1 << bit % 8);
        send_sealed();
        send_good(1); /* the same counter: what did not open has not used it up */
        check_counts(2, reason_of_bit(bit), 1);
        reader_close();
    }
}

static void under_the_other_cipher_a_message_is_of_a_bad_type(void) {
    for (int i = 0; i < 2; i++) {
        reader_open(aeads[i]);
        uint8_t packet[PACKET];
        ipv4_make(packet, PACKET, PEER_ADDRESS, OUR_ADDRESS);
        sealed_make(&sealed, aeads[1 - i], KEY, INDEX, 0, packet, PACKET);
        send_sealed();
        send_good(0);
        check_counts(1, DROP_link_reader_bad_type, 1);
        reader_close();
    }
}

static void what_is_not_a_message_of_the_wire_is_of_a_bad_type(void) {
    uint8_t message[200] = {0};
    reader_open(AEAD_CHACHA20_POLY1305);
    size_t n = 0;
    for (unsigned type = 0; type < 256; type++) {
        message[0] = (uint8_t)type;
        bool is_data = type == 4 || type == 5;
        send_raw(message, is_data ? DATA_MESSAGE_MIN - 1 : 199); /* too short, no handshake */
        n++;
    }
    for (size_t length = 1; length < 4; length++, n++) {
        message[0] = 4;
        send_raw(message, length);
    }
    send_good(0);
    check_counts(1, DROP_link_reader_bad_type, n);
    reader_close();
}

static void a_bare_packet_is_not_taken_on_the_sealed_wire(void) {
    uint8_t packet[PACKET];
    reader_open(AEAD_CHACHA20_POLY1305);
    ipv4_make(packet, PACKET, PEER_ADDRESS, OUR_ADDRESS);
    send_raw(packet, PACKET);
    check_counts(0, DROP_link_reader_bad_type, 1);
    reader_close();
}

/* -- counters ---------------------------------------------------------------------------------- */

static void a_message_sent_again_is_dropped_however_far_apart(void) {
    for (int i = 0; i < 2; i++) {
        reader_open(aeads[i]);
        send_good(5);
        send_good(5);
        send_good(0); /* late, but new */
        send_good(5 + REPLAY_WINDOW);
        send_good(5);
        send_good(4); /* never seen, but too old to know */
        send_good(5 + REPLAY_WINDOW + 1);
        check_counts(4, DROP_link_reader_replayed, 3);
        reader_close();
    }
}

static void the_counters_at_the_end_of_a_key_are_refused(void) {
    for (int i = 0; i < 2; i++) {
        reader_open(aeads[i]);
        send_good(REJECT_AFTER_MESSAGES);
        send_good(REJECT_AFTER_MESSAGES + 1);
        send_good(UINT64_MAX);
        send_good(REJECT_AFTER_MESSAGES - 1); /* the last one allowed */
        check_counts(1, DROP_link_reader_replayed, 3);
        reader_close();
    }
}

static void counters_that_the_handover_used_up_are_used_up(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    add_key(KEY, INDEX, 3);
    for (uint64_t counter = 0; counter < 5; counter++)
        send_good(counter);
    check_counts(2, DROP_link_reader_replayed, 3);
    CHECK_EQUAL(count_events(EVENT_CONFIRMED), 0); /* the gateway has confirmed it itself */
    reader_close();
}

/* -- addresses --------------------------------------------------------------------------------- */

static void a_source_that_is_not_the_peers_own_is_dropped(void) {
    uint8_t packet[PACKET];
    const uint32_t strangers[] = {OTHER_ADDRESS, OUR_ADDRESS, 0, 0xffffffff, PEER_ADDRESS + 2};
    const size_t n = sizeof strangers / sizeof *strangers;
    reader_open(AEAD_AES_256_GCM);
    for (size_t i = 0; i < n; i++) {
        ipv4_make(packet, PACKET, strangers[i], OUR_ADDRESS);
        send_content(2 * i, packet, PACKET);
        ipv6_make(packet, PACKET, strangers[i], OUR_ADDRESS);
        send_content(2 * i + 1, packet, PACKET);
    }
    ipv6_make(packet, PACKET, PEER_ADDRESS, OUR_ADDRESS);
    send_content(2 * n, packet, PACKET);
    check_counts(1, DROP_link_reader_bad_source, 2 * n);
    reader_close();
}

/* By `segment` bytes, from `source` to us. */
static void send_super(uint16_t segment, uint32_t source) {
    uint8_t content[MESSAGE_TYPE_LENGTH + VNET_LENGTH + 1540] = {MESSAGE_SUPER};
    uint8_t *packet = content + MESSAGE_TYPE_LENGTH + VNET_LENGTH;
    const struct vnet vnet = {.flags = VNET_NEEDS_CSUM,
                              .gso_type = VNET_GSO_TCPV4,
                              .gso_size = segment,
                              .csum_start = IPV4_HEADER_SIZE,
                              .csum_offset = 16};
    ipv4_make(packet, 1540, source, OUR_ADDRESS);
    packet[9] = 6; /* TCP */
    packet[IPV4_HEADER_SIZE + 12] = 5 << 4;
    vnet_write(&vnet, content + MESSAGE_TYPE_LENGTH);
    send_content(0, content, sizeof content);
}

static void a_super_packet_that_amplifies_is_refused_with_its_reason(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    send_super(8, PEER_ADDRESS);
    check_counts(0, DROP_link_reader_amplifies, 1);
    reader_close();
}

static void a_super_packet_from_a_strangers_address_counts_as_all_its_packets(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    send_super(300, OTHER_ADDRESS);
    check_counts(0, DROP_link_reader_bad_source, 5);
    reader_close();
}

static void a_source_whose_prefix_was_taken_away_is_dropped(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    loop_forget_ips(reader.loop, SLOT);
    send_good(0);
    check_counts(0, DROP_link_reader_bad_source, 1);
    reader_close();
}

/* -- content ----------------------------------------------------------------------------------- */

static void padding_is_cut_off_by_the_packets_own_length(void) {
    for (size_t length = IPV4_HEADER_SIZE; length < 120; length++) {
        uint8_t packet[160] = {0};
        uint64_t cursor;
        bool corrupt = false;
        size_t padded = (length + 15) & ~(size_t)15;
        reader_open(aeads[length % 2]);
        ipv4_make(packet, length, PEER_ADDRESS, OUR_ADDRESS);
        send_content(0, packet, padded);
        check_counts(1, NO_DROP, 0);
        cursor = reader.lane.ring->peer = ring_first(reader.lane.ring);
        const struct ring_view *record = ring_peek(reader.lane.ring, &cursor, &corrupt);
        CHECK_EQUAL(record->n_bytes, length);
        CHECK_EQUAL(record->length, VNET_LENGTH + length);
        CHECK_EQUAL(memcmp(record->payload + VNET_LENGTH, packet, length), 0);
        CHECK_EQUAL(field(SLOT, "receive_bytes"), length);
        reader_close();
    }
}

static void an_authentic_peer_that_sends_nonsense_is_dropped_with_the_reason(void) {
    uint8_t content[PACKET] = {0};
    const struct {
        uint8_t first;
        unsigned reason;
    } cases[] = {{MESSAGE_ETHERNET, DROP_link_reader_bad_type},
                 {MESSAGE_SUPER, DROP_link_reader_not_ip},
                 {0x00, DROP_link_reader_not_ip},
                 {0x55, DROP_link_reader_not_ip},
                 {0x45, DROP_link_reader_not_ip}}; /* whose own length is 0 */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reader_open(AEAD_CHACHA20_POLY1305);
        content[0] = cases[i].first;
        send_content(0, content, sizeof content);
        send_good(1);
        check_counts(1, cases[i].reason, 1);
        reader_close();
    }
}

static void a_control_message_on_a_stream_goes_up_once_and_a_longer_one_is_of_a_bad_type(void) {
    static uint8_t content[EVENT_BYTES_MAX + 1] = {MESSAGE_CONTROL};
    reader_open(AEAD_CHACHA20_POLY1305);
    send_content(3, content, 300);
    send_content(3, content, 300);
    send_good(4); /* what is behind it is not lost */
    check_counts(1, DROP_link_reader_replayed, 1);
    CHECK_EQUAL(count_events(EVENT_CONTROL), 1);
    reader_close();
    reader_open(AEAD_CHACHA20_POLY1305);
    send_content(0, content, sizeof content);
    check_counts(0, DROP_link_reader_bad_type, 1);
    CHECK_EQUAL(count_events(EVENT_CONTROL), 0);
    reader_close();
}

static void a_keepalive_is_noted_and_counts_as_no_packet(void) {
    for (int i = 0; i < 2; i++) {
        reader_open(aeads[i]);
        send_content(0, NULL, 0);
        send_content(1, NULL, 0);
        check_counts(0, NO_DROP, 0);
        CHECK(field(SLOT, "received_ns") > 0);
        CHECK_EQUAL(field(SLOT, "received_data_ns"), 0);
        CHECK_EQUAL(stats_read_counter(reader.lane.stats, ROLE_link_reader, COUNTER_frames), 0);
        CHECK_EQUAL(count_events(EVENT_CONFIRMED), 1);
        reader_close();
    }
}

/* The first message is reported; what came behind it stays unread, and there is no link then. */
static void what_waits_to_be_passed_on_goes_with_its_link(void) {
    reader_open(AEAD_AES_256_GCM);
    send_good(0);
    send_good(1);
    CHECK_EQUAL(loop_run(reader.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(reader.loop)->kind, EVENT_CONFIRMED);
    loop_detach_link(reader.loop, SLOT);
    CHECK_EQUAL(send(reader.worker.channel[0], "", 1, 0), 1);
    CHECK_EQUAL(loop_run(reader.loop), LOOP_DOORBELL);
    check_counted(1, NO_DROP, 0);
    reader_close();
}

static void only_what_opens_moves_the_time_of_the_last_receipt(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    make_packet(KEY, INDEX, 0);
    sealed.bytes[sealed.length - 1] ^= 1;
    send_sealed();
    make_packet(KEY + 1, INDEX, 0);
    send_sealed();
    check_counts(0, DROP_link_reader_bad_tag, 2);
    CHECK_EQUAL(field(SLOT, "received_ns"), 0);
    CHECK_EQUAL(count_events(EVENT_CONFIRMED), 0);
    reader_close();
}

static void a_frame_on_a_sealed_tap_link_comes_from_any_address(void) {
    uint8_t content[MESSAGE_TYPE_LENGTH + 60] = {MESSAGE_ETHERNET};
    reader_open_mode(AEAD_AES_256_GCM, MODE_TAP);
    add_key(KEY, INDEX, 0);
    send_content(0, content, sizeof content);
    check_counts(1, NO_DROP, 0);
    reader_close();
}

int main(void) {
    RUN(every_tampered_bit_is_dropped_with_its_reason_and_the_next_one_passes);
    RUN(under_the_other_cipher_a_message_is_of_a_bad_type);
    RUN(what_is_not_a_message_of_the_wire_is_of_a_bad_type);
    RUN(a_bare_packet_is_not_taken_on_the_sealed_wire);
    RUN(a_message_sent_again_is_dropped_however_far_apart);
    RUN(the_counters_at_the_end_of_a_key_are_refused);
    RUN(counters_that_the_handover_used_up_are_used_up);
    RUN(a_source_that_is_not_the_peers_own_is_dropped);
    RUN(a_super_packet_that_amplifies_is_refused_with_its_reason);
    RUN(a_super_packet_from_a_strangers_address_counts_as_all_its_packets);
    RUN(a_source_whose_prefix_was_taken_away_is_dropped);
    RUN(padding_is_cut_off_by_the_packets_own_length);
    RUN(an_authentic_peer_that_sends_nonsense_is_dropped_with_the_reason);
    RUN(a_control_message_on_a_stream_goes_up_once_and_a_longer_one_is_of_a_bad_type);
    RUN(a_keepalive_is_noted_and_counts_as_no_packet);
    RUN(what_waits_to_be_passed_on_goes_with_its_link);
    RUN(only_what_opens_moves_the_time_of_the_last_receipt);
    RUN(a_frame_on_a_sealed_tap_link_comes_from_any_address);
    return EXIT_SUCCESS;
}
