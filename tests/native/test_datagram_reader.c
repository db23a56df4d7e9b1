/* The link-reader's UDP sockets, where anyone may send anything: what is authentic passes, and
 * only that says where the peer is; the rest is counted under its one reason. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "inbound/datagram_reader.h"
#include "inbound/datagram_batch.h"
#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "datagram_link.h"
#include "handshakes.h"
#include "inbound/message_in.h"
#include "inbound/link_reader.h"

/* -- data -------------------------------------------------------------------------------------- */

static void datagrams_pass_singly_and_in_trains_with_the_kernels_joining_and_without(void) {
    enum { N = 40, MESSAGE = DATA_MESSAGE_MIN + PACKET };
    static uint8_t train[N * MESSAGE];
    for (int i = 0; i < 4; i++) {
        bool has_offload = i % 2 == 0;
        datagrams_open(aeads[i / 2], has_offload);
        for (uint64_t counter = 0; counter < N; counter++) {
            make_packet(KEY, INDEX, counter);
            memcpy(train + counter * MESSAGE, sealed.bytes + STREAM_LENGTH_PREFIX, MESSAGE);
        }
        datagrams_send_train(0, train, sizeof train, MESSAGE);
        datagrams_run();
        uint64_t n_calls = stats_read_call(reader.lane.stats, ROLE_link_reader, CALL_recvmmsg);
        CHECK(has_offload ? n_calls == 1 : n_calls >= N / DATAGRAM_BUFFERS);
        datagram_send_good(1, N);
        datagrams_run();
        check_counted(N + 1, NO_DROP, 0);
        CHECK_EQUAL(count_events(EVENT_CONFIRMED), 1);
        CHECK_EQUAL(field(SLOT, "receive_bytes"), (N + 1) * PACKET);
        datagrams_close();
    }
}

static void the_last_of_a_train_may_be_shorter(void) {
    uint8_t train[3 * (DATA_MESSAGE_MIN + PACKET)], packet[32];
    size_t length = 0;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    for (uint64_t counter = 0; counter < 3; counter++) {
        make_packet(KEY, INDEX, counter);
        if (counter == 2) {
            ipv4_make(packet, sizeof packet, PEER_ADDRESS, OUR_ADDRESS);
            sealed_make(&sealed, reader.aead, KEY, INDEX, counter, packet, sizeof packet);
        }
        memcpy(train + length, sealed.bytes + STREAM_LENGTH_PREFIX,
               sealed.length - STREAM_LENGTH_PREFIX);
        length += sealed.length - STREAM_LENGTH_PREFIX;
    }
    datagrams_send_train(0, train, length, DATA_MESSAGE_MIN + PACKET);
    datagrams_run();
    check_counted(3, NO_DROP, 0);
    CHECK_EQUAL(field(SLOT, "receive_bytes"), 2 * PACKET + sizeof packet);
    datagrams_close();
}

static void what_does_not_open_is_dropped_with_its_reason_and_the_next_one_passes(void) {
    for (size_t bit = 0; bit < 8 * (DATA_MESSAGE_MIN + PACKET); bit += bit < 128 ? 1 : 37) {
        datagrams_open(aeads[bit % 2], bit % 3 == 0);
        make_packet(KEY, INDEX, 1);
        sealed.bytes[STREAM_LENGTH_PREFIX + bit / 8] ^= (uint8_t)(1 << bit % 8);
        datagram_send_sealed(0);
        datagram_send_good(0, 1);
        datagrams_run();
        check_counted(1,
                      bit < 32   ? DROP_link_reader_bad_type
                      : bit < 64 ? DROP_link_reader_unknown_index
                                 : DROP_link_reader_bad_tag,
                      1);
        datagrams_close();
    }
}

static void a_datagram_sent_again_is_dropped_wherever_it_comes_from(void) {
    datagrams_open(AEAD_AES_256_GCM, true);
    datagram_send_good(0, 5);
    datagram_send_good(0, 5);
    datagram_send_good(1, 5);
    datagram_send_good(0, 3); /* late, but new */
    datagrams_run();
    check_counted(2, DROP_link_reader_replayed, 2);
    datagrams_close();
}

static void an_inner_source_that_is_not_the_peers_own_is_dropped(void) {
    uint8_t packet[PACKET];
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    ipv4_make(packet, PACKET, OTHER_ADDRESS, OUR_ADDRESS);
    sealed_make(&sealed, reader.aead, KEY, INDEX, 0, packet, PACKET);
    datagram_send_sealed(0);
    datagrams_run();
    check_counted(0, DROP_link_reader_bad_source, 1);
    datagrams_close();
}

static void what_is_not_a_message_is_of_a_bad_type(void) {
    static const uint8_t junk[65507] = {4};
    datagrams_open(AEAD_CHACHA20_POLY1305, false);
    size_t n = 0;
    for (size_t length = 0; length < DATA_MESSAGE_MIN; length++, n++)
        datagram_send(0, junk, length);
    for (int type = 6; type < 256; type++, n++)
        datagram_send(0, (uint8_t[DATA_MESSAGE_MIN]){(uint8_t)type}, DATA_MESSAGE_MIN);
    datagrams_run();
    datagram_send(0, (uint8_t[147]){1}, 147); /* no initiation has this length */
    datagram_send(0, junk + 1, sizeof junk - 1);
    datagrams_run();
    check_counted(0, DROP_link_reader_bad_type, n + 2);
    CHECK_EQUAL(reader.n_events, 0);
    datagrams_close();
}

static void a_keepalive_is_noted_and_counts_as_no_packet(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    sealed_make(&sealed, reader.aead, KEY, INDEX, 0, NULL, 0);
    datagram_send_sealed(0);
    datagrams_run();
    check_counted(0, NO_DROP, 0);
    CHECK(field(SLOT, "received_ns") > 0);
    CHECK_EQUAL(field(SLOT, "received_data_ns"), 0);
    CHECK_EQUAL(count_events(EVENT_CONFIRMED), 1);
    datagrams_close();
}

static void a_key_that_has_expired_opens_nothing(void) {
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, KEY);
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    CHECK_EQUAL(
        key_add_for_receiving(reader.loop, SLOT, reader.aead, key, INDEX, 0, clock_boottime_ns()),
        0); /* the same session: now it has ended */
    datagram_send_good(0, 0);
    datagrams_run();
    check_counted(0, DROP_link_reader_unknown_index, 1);
    CHECK(!endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

static void a_socket_carries_the_messages_of_all_peers(void) {
    uint8_t key[AEAD_KEY_SIZE], packet[PACKET];
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    sealing_key(key, KEY + 1);
    CHECK_EQUAL(
        key_add_for_receiving(reader.loop, OTHER_SLOT, reader.aead, key, INDEX + 1, 0, UINT64_MAX),
        0);
    ipv4_make(packet, PACKET, OTHER_ADDRESS, OUR_ADDRESS);
    sealed_make(&sealed, reader.aead, KEY + 1, INDEX + 1, 0, packet, PACKET);
    datagram_send_sealed(1);
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK_EQUAL(field(SLOT, "receive_packets"), 1);
    CHECK_EQUAL(field(OTHER_SLOT, "receive_packets"), 1);
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

/* -- for the gateway --------------------------------------------------------------------------- */

static void control_messages_go_up_and_longer_ones_are_of_a_bad_type(void) {
    static uint8_t content[EVENT_BYTES_MAX + 1];
    const size_t lengths[] = {1, 4, 500, EVENT_BYTES_MAX};
    memset(content, 0x77, sizeof content);
    content[0] = MESSAGE_CONTROL;
    datagrams_open(AEAD_AES_256_GCM, true);
    for (uint64_t i = 0; i < 4; i++) {
        sealed_make(&sealed, reader.aead, KEY, INDEX, i, content, lengths[i]);
        datagram_send_sealed(0);
    }
    sealed_make(&sealed, reader.aead, KEY, INDEX, 4, content, EVENT_BYTES_MAX + 1);
    datagram_send_sealed(0);
    datagrams_run();
    CHECK_EQUAL(reader.n_events, 4); /* the first says as well that the key is confirmed */
    for (size_t i = 0; i < 4; i++) {
        const struct loop_event *event = &reader.events[i];
        CHECK_EQUAL(event->kind, EVENT_CONTROL);
        CHECK_EQUAL(event->slot, SLOT);
        CHECK_EQUAL(event->index, INDEX);
        CHECK_EQUAL(event->length, lengths[i]);
        CHECK_EQUAL(memcmp(event->bytes, content, lengths[i]), 0);
    }
    check_counted(0, DROP_link_reader_bad_type, 1);
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

/* By its own rekeys as little as by their number. */
static void a_peer_has_so_many_control_messages_whatever_its_sessions(void) {
    const uint8_t content[] = {MESSAGE_CONTROL, 0x80};
    enum { N_MORE = 30, NEXT_KEY = 9, NEXT_INDEX = 0x90000001 };
    datagrams_open(AEAD_AES_256_GCM, true);
    add_key(NEXT_KEY, NEXT_INDEX, 0);
    for (uint64_t i = 0; i < CONTROLS_BURST + N_MORE; i++) {
        bool is_next = i >= CONTROLS_BURST;
        sealed_make(&sealed, reader.aead, is_next ? NEXT_KEY : KEY, is_next ? NEXT_INDEX : INDEX, i,
                    content, sizeof content);
        datagram_send_sealed(0);
    }
    datagrams_run();
    size_t n_passed = count_events(EVENT_CONTROL);
    CHECK(n_passed >= CONTROLS_BURST && n_passed < CONTROLS_BURST + N_MORE);
    check_counted(0, DROP_link_reader_control_flood, CONTROLS_BURST + N_MORE - n_passed);
    for (size_t slot = 0; slot < N_PEER_SLOTS; slot++)
        CHECK_EQUAL(link_reader_of(reader.loop)->controls_full_at_ns[slot] != 0,
                    slot == SLOT || slot == OTHER_SLOT /* the end of what is sent */);
    if (n_passed == CONTROLS_BURST) /* no time went by: the next key's were all too many */
        CHECK_EQUAL(count_events(EVENT_CONFIRMED), 1);
    datagrams_close();
}

/* -- where the peer is ------------------------------------------------------------------------- */

static void the_endpoint_follows_what_is_authentic_and_nothing_else(void) {
    const struct udp_address configured = {
        .family = UDP_ADDRESS_IPV4, .port = 9, .address = {192, 0, 2}};
    uint8_t message[HANDSHAKE_BYTES_MAX];
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &configured, 0), 0);
    CHECK(loop_set_endpoint(reader.loop, N_PEER_SLOTS, &configured, 0) < 0);
    CHECK(endpoint_is(SLOT, &configured));
    make_packet(KEY + 1, INDEX, 0); /* from one without the key */
    datagram_send_sealed(1);
    datagram_send(1, message, handshake_make(message, 2, 0, mac1_key));
    datagrams_run();
    CHECK(endpoint_is(SLOT, &configured));
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagram_send_good(1, 0); /* caught on its way and sent from elsewhere */
    make_packet(KEY, INDEX, 1);
    sealed.bytes[sealed.length - 1] ^= 1;
    datagram_send_sealed(1);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagram_send_good(1, 1);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[1]));
    datagrams_close();
}

static void what_comes_under_an_older_key_moves_the_endpoint_no_more(void) {
    enum { NEXT_KEY = 9, NEXT_INDEX = 0x90000001 };
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    struct udp_address elsewhere = sender_endpoints[1];
    elsewhere.port = 9;
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &elsewhere, INDEX + 77),
                0); /* unknown: none is */
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    add_key(NEXT_KEY, NEXT_INDEX, 0);
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &elsewhere, NEXT_INDEX), 0);
    datagram_send_good(0, 1);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &elsewhere));
    make_packet(NEXT_KEY, NEXT_INDEX, 0);
    datagram_send_sealed(0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

static void the_next_peer_of_a_slot_is_found_where_the_last_one_was(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    loop_forget_ips(reader.loop, SLOT);
    peer_table_clear(reader.lane.peers, SLOT);
    CHECK(!endpoint_is(SLOT, &sender_endpoints[0]));
    datagram_send_good(0, 1);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

static void an_interface_that_was_left_does_not_give_the_source_again(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    struct udp_address left = sender_endpoints[0];
    memset(left.local, 0, sizeof left.local);
    left.local_zone |= UDP_ADDRESS_LEFT;
    struct udp_address elsewhere = left;
    elsewhere.local_zone ^= 2; /* another than loopback was left */
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &left, 0), 0);
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &left));
    datagram_send_good(1, 1); /* it has roamed */
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[1]));
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &elsewhere, 0), 0);
    datagram_send_good(0, 2);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

/* Loopback stands for the device. */
static void what_comes_through_the_tunnel_itself_is_dropped_and_moves_no_endpoint(void) {
    uint8_t initiation[HANDSHAKE_BYTES_MAX];
    struct udp_address before = sender_endpoints[1];
    before.port = 9;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    CHECK_EQUAL(loop_set_endpoint(reader.loop, SLOT, &before, 0), 0);
    datagram_send_good(0, 0);
    memset(initiation, 0, sizeof initiation);
    initiation[0] = MESSAGE_INITIATION;
    datagram_send(0, initiation, sizeof initiation);
    datagram_send(0, "?", 1);
    struct datagram_batch *datagrams = link_reader_of(reader.loop)->datagrams;
    link_reader_of(reader.loop)->device_index = 1;
    CHECK_EQUAL(datagram_batch_receive(datagrams,
                                       link_reader_of(reader.loop)->sockets[DATAGRAM_SOCKET].fd, 0),
                3);
    CHECK_EQUAL(datagrams_drain(link_reader_of(reader.loop)), STEP_MORE);
    CHECK_EQUAL(stats_read_drop(reader.lane.stats, DROP_link_reader_inside_tunnel), 3);
    CHECK(endpoint_is(SLOT, &before));
    link_reader_of(reader.loop)->device_index = 2; /* another interface's is ours */
    datagram_send_good(0, 0);
    datagrams_run();
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

static void a_message_on_the_stream_does_not_move_the_endpoint(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    datagram_send_good(0, 0);
    datagrams_run();
    send_good(1);
    check_counts(2, NO_DROP, 0);
    CHECK(endpoint_is(SLOT, &sender_endpoints[0]));
    datagrams_close();
}

/* Here by a closed port; from far away anyone could send it. */
static void an_error_that_is_sent_back_ends_nothing(void) {
    const struct sockaddr_in closed = {
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in sender = closed;
    int error = 0;
    socklen_t length = sizeof error;
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    int fd = link_reader_of(reader.loop)->sockets[DATAGRAM_SOCKET].fd;
    CHECK_EQUAL(connect(fd, (const struct sockaddr *)&closed, sizeof closed), 0);
    CHECK_EQUAL(send(fd, "", 1, 0), 1);
    sender.sin_port = htons(sender_endpoints[0].port); /* the one that is heard from now on */
    CHECK_EQUAL(connect(fd, (const struct sockaddr *)&sender, sizeof sender), 0);
    datagram_send_good(0, 0);
    datagrams_run();
    check_counted(1, NO_DROP, 0);
    CHECK_EQUAL(reader.n_events, 1); /* the key is confirmed */
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    CHECK_EQUAL(error, 0);
    datagrams_close();
}

static void there_are_so_many_sockets_and_no_more(void) {
    datagrams_open(AEAD_CHACHA20_POLY1305, true);
    CHECK_EQUAL(loop_add_socket(reader.loop, N_SOCKETS,
                                link_reader_of(reader.loop)->sockets[DATAGRAM_SOCKET].fd, 0),
                -EINVAL);
    datagrams_close();
}

int main(void) {
    RUN(datagrams_pass_singly_and_in_trains_with_the_kernels_joining_and_without);
    RUN(the_last_of_a_train_may_be_shorter);
    RUN(what_does_not_open_is_dropped_with_its_reason_and_the_next_one_passes);
    RUN(a_datagram_sent_again_is_dropped_wherever_it_comes_from);
    RUN(an_inner_source_that_is_not_the_peers_own_is_dropped);
    RUN(what_is_not_a_message_is_of_a_bad_type);
    RUN(a_keepalive_is_noted_and_counts_as_no_packet);
    RUN(a_key_that_has_expired_opens_nothing);
    RUN(a_socket_carries_the_messages_of_all_peers);
    RUN(control_messages_go_up_and_longer_ones_are_of_a_bad_type);
    RUN(a_peer_has_so_many_control_messages_whatever_its_sessions);
    RUN(the_endpoint_follows_what_is_authentic_and_nothing_else);
    RUN(what_comes_under_an_older_key_moves_the_endpoint_no_more);
    RUN(the_next_peer_of_a_slot_is_found_where_the_last_one_was);
    RUN(an_interface_that_was_left_does_not_give_the_source_again);
    RUN(what_comes_through_the_tunnel_itself_is_dropped_and_moves_no_endpoint);
    RUN(a_message_on_the_stream_does_not_move_the_endpoint);
    RUN(an_error_that_is_sent_back_ends_nothing);
    RUN(there_are_so_many_sockets_and_no_more);
    return EXIT_SUCCESS;
}
