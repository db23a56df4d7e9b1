/* Super-packets that are split while the ring is full half way, and what is left of one whose link
 * or key has gone in the meantime. */
#define _GNU_SOURCE
#include "outbound/splitting.h"
#include "check.h"
#include "worker/key_commands.h"
#include "outbound/frame.h"
#include "split_link.h"

/* -- a full ring ------------------------------------------------------------------------------- */

/* Gives super-packets until one is half in the ring. */
static void fill_ring(void) {
    const struct super_packet_shape shape = tcp4(100, 40007); /* many records */
    while (!splitting_is_underway(tun_reader_of(sender.worker.loop)->splitting)) {
        give_super(&shape);
        sender_run();
    }
}

static void a_frame_that_finds_the_ring_full_half_way_goes_on_where_it_stood(void) {
    const struct link_format formats[] = {datagram_format(MTU), sealed_format(MODE_TUN, false)};
    for (int i = 0; i < 2; i++) {
        uint64_t n_packets = 0;
        open_link(formats[i], AEAD_CHACHA20_POLY1305);
        for (int round = 0; round < 3; round++) {
            n_given = next_frame = 0;
            fill_ring();
            give_plain(100);
            n_packets += take_all(&formats[i], AEAD_CHACHA20_POLY1305);
            CHECK(next_segment > 0);
            CHECK(loop_send_keepalive(sender.worker.loop, SLOT) < 0); /* not in between */
            sender_run();
            n_packets += take_all(&formats[i], AEAD_CHACHA20_POLY1305);
            CHECK_EQUAL(next_frame, n_given);
        }
        CHECK_EQUAL(sender_counter(COUNTER_packets), n_packets);
        CHECK_EQUAL(sender_dropped_in_all(), 0);
        sender_close();
    }
}

/* By a link of another id, which has a session. */
static void replace_link(struct link_format format) {
    loop_detach_link(sender.worker.loop, SLOT);
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, SLOT, SLOT + 1, -1, &format), 0);
    set_session(SLOT, AEAD_CHACHA20_POLY1305, 1, 0, UINT64_MAX);
}

static void check_left_over(struct link_format format, enum stats_drop reason) {
    uint64_t n_packets = take_all(&format, AEAD_CHACHA20_POLY1305);
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK(sender_dropped(reason) > 0);
    CHECK_EQUAL(n_packets + sender_dropped(reason), sender_counter(COUNTER_packets));
    sender_close();
}

static void what_is_left_of_a_frame_whose_link_or_key_has_gone_is_counted(void) {
    const struct link_format format = datagram_format(MTU);
    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_detach_link(sender.worker.loop, SLOT);
    check_left_over(format, DROP_tun_reader_link_ended);

    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_forget_sending_key(sender.worker.loop, SLOT);
    check_left_over(format, DROP_tun_reader_no_session);
}

/* From UDP to a stream, and the other way; the next frame goes by the new link. */
static void what_is_left_of_a_frame_does_not_go_by_the_link_that_replaced_its_own(void) {
    const struct link_format udp = datagram_format(MTU), stream = sealed_format(MODE_TUN, false);
    for (int i = 0; i < 2; i++) {
        const struct link_format old = i == 0 ? udp : stream, new = i == 0 ? stream : udp;
        open_link(old, AEAD_CHACHA20_POLY1305);
        fill_ring();
        replace_link(new);
        uint64_t n_packets = take_all(&old, AEAD_CHACHA20_POLY1305);
        sender_run();
        CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
        uint64_t n_left = sender_dropped(DROP_tun_reader_link_ended);
        CHECK(n_left > 0);
        CHECK_EQUAL(n_packets + n_left, sender_counter(COUNTER_packets));
        n_given = next_frame = next_segment = 0;
        give_plain(100);
        sender_run();
        bool corrupt = false;
        const struct ring_view *record = ring_peek(sender.lane.ring, &cursor, &corrupt);
        CHECK(record != NULL && record->link_id == SLOT + 1);
        sender_close();
    }
}

/* Which is not sealed, and waits for the next link. */
static void what_is_left_on_a_plain_wire_goes_by_the_next_link(void) {
    const struct link_format format = plain_format(MODE_TUN, false);
    open_link(format, AEAD_CHACHA20_POLY1305);
    fill_ring();
    loop_detach_link(sender.worker.loop, 0);
    CHECK_EQUAL(loop_attach_link(sender.worker.loop, 0, 7, -1, &format), 0);
    uint64_t n_packets = take_all(&format, AEAD_CHACHA20_POLY1305);
    sender_run();
    n_packets += take_all(&format, AEAD_CHACHA20_POLY1305);
    CHECK_EQUAL(sender_dropped_in_all(), 0);
    CHECK_EQUAL(n_packets, sender_counter(COUNTER_packets));
    sender_close();
}

static void a_key_used_up_in_mid_frame_leaves_whole_records_and_counts_the_rest(void) {
    const struct super_packet_shape shape = tcp4(1000, 60 * 1000);
    const struct link_format format = datagram_format(MTU);
    open_link(format, AEAD_CHACHA20_POLY1305);
    set_session(SLOT, AEAD_CHACHA20_POLY1305, 1, REJECT_AFTER_MESSAGES - 20, UINT64_MAX);
    give_super(&shape);
    sender_run();
    CHECK_EQUAL(take_all(&format, AEAD_CHACHA20_POLY1305), 20);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 40);
    CHECK_EQUAL(sender_counter(COUNTER_packets), 60);
    give_super(&shape); /* and no empty record */
    sender_run();
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    CHECK_EQUAL(sender_dropped(DROP_tun_reader_no_session), 100);
    sender_close();
}

int main(void) {
    RUN(a_frame_that_finds_the_ring_full_half_way_goes_on_where_it_stood);
    RUN(what_is_left_of_a_frame_whose_link_or_key_has_gone_is_counted);
    RUN(what_is_left_of_a_frame_does_not_go_by_the_link_that_replaced_its_own);
    RUN(what_is_left_on_a_plain_wire_goes_by_the_next_link);
    RUN(a_key_used_up_in_mid_frame_leaves_whole_records_and_counts_the_rest);
    return EXIT_SUCCESS;
}
