/* What the tun-reader does not send: frames that are none, packets for no peer, and the device that
 * is gone. A SOCK_SEQPACKET pair stands for the device. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "outbound/codel.h"
#include "outbound/answer_limit.h"
#include "check.h"
#include "worker/key_commands.h"
#include "sender.h"

enum { PEER = 0x0a000002 };

/* A session with the peer in slot 0, which has all of 10.0.0.0/8. */
static void add_peer_with(struct link_format format) {
    const uint8_t ten[4] = {10};
    sender_attach(0, format);
    set_key(0, AEAD_CHACHA20_POLY1305, 0);
    sender_allow(0, ten, sizeof ten, 8);
}

static void add_peer(enum mode mode) {
    add_peer_with(sealed_format(mode, true));
}

static void give_with(const uint8_t vnet[VNET_LENGTH], const uint8_t *packet) {
    uint8_t bytes[VNET_LENGTH + PACKET];
    memcpy(bytes, vnet, VNET_LENGTH);
    memcpy(bytes + VNET_LENGTH, packet, PACKET);
    give_frame(bytes, sizeof bytes);
}

/* At least: a loop that ends in between asks for a session, and is run on. */
static void run_for_ms(unsigned ms) {
    enum loop_end end;
    do {
        worker_start(&sender.worker);
        usleep(ms * 1000);
        end = worker_stop(&sender.worker);
        CHECK(end == LOOP_DOORBELL || loop_event(sender.worker.loop)->kind == EVENT_NO_SESSION);
    } while (end != LOOP_DOORBELL);
}

static size_t count_answers(void) {
    uint8_t answer[2000];
    size_t n = 0;
    while (read(sender.device[1], answer, sizeof answer) > 0)
        n++;
    return n;
}

/* -- frames ------------------------------------------------------------------------------------ */

static void what_is_not_ip_is_counted_and_goes_nowhere(void) {
    uint8_t packet[PACKET];
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    ipv4_make(packet, PACKET, US, PEER);
    give(packet, IPV4_HEADER_SIZE - 1);
    packet[0] = 0x55;
    give(packet, PACKET);
    ipv6_make(packet, PACKET, US, PEER);
    give(packet, IPV6_HEADER_SIZE - 1);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_not_ip), 3);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 3);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    sender_close();
}

static void an_offload_header_that_does_not_fit_its_frame_is_counted_and_not_sent(void) {
    const uint8_t beyond[VNET_LENGTH] = {[0] = VNET_NEEDS_CSUM, [6] = 20, [8] = PACKET};
    uint8_t packet[PACKET];
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    ipv4_make(packet, PACKET, US, PEER);
    give_with(beyond, packet);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_bad_virtio), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    sender_close();
}

/* When the peer's oldest frame began to wait, as the link-writer tells it; 0: none waits. */
static uint64_t count_delayed(uint64_t waiting_since_ns) {
    peer_set(&sender.lane.peers->by_link_writer[0].waiting_since_ns, waiting_since_ns);
    give_packet(PEER);
    run_for_ms(20);
    return sender_dropped(DROP_tun_reader_queue_delay);
}

static void a_queue_that_stays_long_loses_packets_and_a_short_one_none(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    uint64_t long_ago_ns = clock_now_ns() - 1000 * 1000 * 1000;
    CHECK_EQUAL(count_delayed(long_ago_ns), 0);
    usleep(CODEL_INTERVAL_NS / 1000);
    CHECK_EQUAL(count_delayed(long_ago_ns), 1);
    CHECK_EQUAL(count_delayed(0), 1);
    usleep(CODEL_INTERVAL_NS / 1000);
    CHECK_EQUAL(count_delayed(0), 1);
    CHECK_EQUAL(count_delayed(clock_now_ns() + 1000 * 1000 * 1000), 1); /* read since */
    usleep(CODEL_INTERVAL_NS / 1000);
    CHECK_EQUAL(count_delayed(clock_now_ns() + 1000 * 1000 * 1000), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 6);
    sender_close();
}

enum { OVER_THE_BOUND_NS = 250 * 1000 * 1000 };

/* CoDel would drop every other one at most. */
static void what_is_behind_a_queue_far_too_long_is_dropped_until_it_is_shorter(void) {
    enum { N = 20 };
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    CHECK_EQUAL(count_delayed(0), 0); /* stays in the ring */
    uint64_t used_bytes = ring_used_bytes(sender.lane.ring);
    peer_set(&sender.lane.peers->by_link_writer[0].waiting_since_ns,
             clock_now_ns() - OVER_THE_BOUND_NS);
    for (int i = 0; i < N; i++)
        give_packet(PEER);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_queue_delay), N);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), used_bytes);
    CHECK_EQUAL(count_delayed(clock_now_ns() - OVER_THE_BOUND_NS / 2), N);
    sender_close();
}

/* Nothing is left that could be measured anew. */
static void an_old_figure_of_an_empty_ring_does_not_stop_a_flow(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    CHECK_EQUAL(count_delayed(clock_now_ns() - OVER_THE_BOUND_NS), 0);
    CHECK(ring_used_bytes(sender.lane.ring) > 0);
    sender_close();
}

/* Their link-writer has a queue for each, and the frame in the ring may be the other's. */
static void of_several_links_on_streams_none_has_that_bound(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    sender_attach(1, sealed_format(MODE_TUN, true));
    CHECK_EQUAL(count_delayed(0), 0);
    CHECK_EQUAL(count_delayed(clock_now_ns() - OVER_THE_BOUND_NS), 0);
    sender_close();
}

static void of_several_links_those_on_udp_have_it(void) {
    sender_open(MODE_TUN);
    add_peer_with(datagram_format(1420));
    sender_attach(1, datagram_format(1420));
    CHECK_EQUAL(count_delayed(0), 0);
    CHECK_EQUAL(count_delayed(clock_now_ns() - OVER_THE_BOUND_NS), 1);
    CHECK_EQUAL(count_delayed(clock_now_ns() - OVER_THE_BOUND_NS / 2), 1);
    sender_close();
}

/* -- no peer ----------------------------------------------------------------------------------- */

static void an_address_of_no_peer_is_not_the_first_peers(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    give_packet(0x0b000001);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    sender_close();
}

/* More peers are known than there are slots: those without one share a number, and no wider prefix
 * of another peer gets what is for them. */
static void an_absent_peers_address_is_not_that_of_a_wider_prefix(void) {
    const uint8_t all[4] = {0}, absent[4] = {0x0b, 0, 0, 1};
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, 0, all, sizeof all, 0), 0);
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, PEER_SLOT_NONE, absent, sizeof absent, 32), 0);
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, PEER_SLOT_NONE + 1, absent, 4, 32), -EINVAL);
    give_packet(0x0b000001);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    give_packet(0x0b000002);
    run_for_ms(20);
    CHECK(ring_used_bytes(sender.lane.ring) > 0);
    CHECK_EQUAL(loop_allow_ip(sender.worker.loop, 0, absent, sizeof absent, 32), 0); /* it came */
    run_for_ms(1);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    sender_close();
}

static void a_frame_for_no_peer_whose_header_does_not_fit_is_one_packet(void) {
    const uint8_t beyond[VNET_LENGTH] = {[0] = VNET_NEEDS_CSUM, [1] = VNET_GSO_TCPV4, [4] = 1};
    uint8_t packet[PACKET];
    sender_open(MODE_TUN);
    ipv4_make(packet, PACKET, US, 0x0b000001);
    give_with(beyond, packet);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 1);
    sender_close();
}

static void a_burst_for_no_peer_is_answered_in_part_and_counted_whole(void) {
    sender_open(MODE_TUN);
    for (int i = 0; i < 250; i++)
        give_packet(0x0b000001);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 250);
    size_t n_answers = count_answers();
    CHECK(n_answers >= ANSWERS_PER_SENDER_AND_PEER && n_answers < 200);
    usleep(20 * 1000);
    give_packet(0x0b000001);
    run_for_ms(20);
    CHECK_EQUAL(count_answers(), 1);
    sender_close();
}

/* To a client in a network that is routed to the device, which the gateway has routes make way for:
 * after "host unreachable" the kernel would not send its answer again. */
static void a_connection_is_refused_and_the_answer_to_one_is_not(void) {
    const uint8_t flags[] = {TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK};
    for (size_t i = 0; i < sizeof flags; i++) {
        uint8_t packet[PACKET];
        sender_open(MODE_TUN);
        ipv4_make(packet, PACKET, US, 0x0b000001);
        packet[IPV4_PROTOCOL_OFFSET] = PROTOCOL_TCP;
        packet[IPV4_HEADER_SIZE + TCP_FLAGS_OFFSET] = flags[i];
        give(packet, PACKET);
        run_for_ms(20);
        CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
        CHECK_EQUAL(count_answers(), flags[i] != (TCP_SYN | TCP_ACK));
        sender_close();
    }
}

/* Its first bytes are addresses, which may look like an IP header. */
static void an_ethernet_frame_is_not_answered(void) {
    uint8_t frame[PACKET];
    sender_open(MODE_TAP);
    ipv4_make(frame, PACKET, US, PEER);
    give(frame, PACKET);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(count_answers(), 0);
    sender_close();
}

/* -- the side that dials ----------------------------------------------------------------------- */

static void the_dialling_side_leaves_packets_in_the_device_for_a_second_and_then_counts_them(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    loop_forget_sending_key(sender.worker.loop, 0);
    loop_hold_without_session(sender.worker.loop);
    give_packet(PEER);
    run_for_ms(200); /* twice, since it asks for a session first */
    CHECK_EQUAL(sender_counter(COUNTER_packets), 0);
    run_for_ms(800); /* the second counts from the first look */
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 1);
    CHECK_EQUAL(count_answers(), 0); /* a session is in the making */
    sender_close();
}

static void with_a_session_the_dialling_side_sends_at_once(void) {
    sender_open(MODE_TUN);
    loop_hold_without_session(sender.worker.loop);
    add_peer(MODE_TUN);
    give_packet(PEER);
    run_for_ms(20);
    CHECK(ring_used_bytes(sender.lane.ring) > 0);
    sender_close();
}

static void the_accepting_side_does_not_hold(void) {
    sender_open(MODE_TUN);
    give_packet(PEER);
    run_for_ms(20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_peer), 1);
    sender_close();
}

/* -- the ring and the device ------------------------------------------------------------------- */

static void while_the_ring_is_full_it_sleeps(void) {
    sender_open(MODE_TUN);
    add_peer(MODE_TUN);
    struct ring_record *record = ring_reserve(sender.worker.ring, SENDER_RING_BYTES - 4096);
    *record = (struct ring_record){.offset = sizeof *record, .length = SENDER_RING_BYTES - 8192};
    ring_commit(sender.worker.ring, record);
    give_packet(PEER);
    run_for_ms(50);
    CHECK_EQUAL(stats_read_call(sender.lane.stats, ROLE_tun_reader, CALL_read), 0);
    CHECK(stats_read_call(sender.lane.stats, ROLE_tun_reader, CALL_ppoll) < 10);
    sender_close();
}

static void a_device_that_is_gone_is_reported_with_its_errno(void) {
    int unreadable = open("/dev/null", O_WRONLY | O_CLOEXEC);
    sender_open_device(MODE_TUN, unreadable);
    CHECK_EQUAL(loop_run(sender.worker.loop), LOOP_DEVICE_GONE);
    CHECK_EQUAL(loop_error(sender.worker.loop), EBADF);
    sender_close();
    close(unreadable);
}

/* A process's memory at 0 cannot be read, which is EIO as for an interface that is down. */
static void a_device_that_is_down_is_waited_for(void) {
    int down = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    CHECK(down >= 0);
    sender_open_device(MODE_TUN, down);
    run_for_ms(20);
    sender_close();
    close(down);
}

int main(void) {
    RUN(what_is_not_ip_is_counted_and_goes_nowhere);
    RUN(an_offload_header_that_does_not_fit_its_frame_is_counted_and_not_sent);
    RUN(a_queue_that_stays_long_loses_packets_and_a_short_one_none);
    RUN(what_is_behind_a_queue_far_too_long_is_dropped_until_it_is_shorter);
    RUN(an_old_figure_of_an_empty_ring_does_not_stop_a_flow);
    RUN(of_several_links_on_streams_none_has_that_bound);
    RUN(of_several_links_those_on_udp_have_it);
    RUN(an_address_of_no_peer_is_not_the_first_peers);
    RUN(an_absent_peers_address_is_not_that_of_a_wider_prefix);
    RUN(a_frame_for_no_peer_whose_header_does_not_fit_is_one_packet);
    RUN(a_burst_for_no_peer_is_answered_in_part_and_counted_whole);
    RUN(a_connection_is_refused_and_the_answer_to_one_is_not);
    RUN(an_ethernet_frame_is_not_answered);
    RUN(the_dialling_side_leaves_packets_in_the_device_for_a_second_and_then_counts_them);
    RUN(with_a_session_the_dialling_side_sends_at_once);
    RUN(the_accepting_side_does_not_hold);
    RUN(while_the_ring_is_full_it_sleeps);
    RUN(a_device_that_is_gone_is_reported_with_its_errno);
    RUN(a_device_that_is_down_is_waited_for);
    return EXIT_SUCCESS;
}
