/* The tun-reader's messages for the gateway: keepalives and control messages, in order with data
 * under the session's counters.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "outbound/tun_reader.h"
#include "check.h"
#include "sender.h"

static void a_keepalive_is_an_empty_message_and_counts_as_no_packet(void) {
    sender_open(MODE_TUN);
    sender_attach(3, sealed_format(MODE_TUN, true));
    CHECK(loop_send_keepalive(sender.worker.loop, 3) < 0); /* no key */
    CHECK(loop_send_keepalive(sender.worker.loop, 4) < 0);
    CHECK(loop_send_keepalive(sender.worker.loop, UINT32_MAX) < 0);
    set_key(3, AEAD_CHACHA20_POLY1305, 0);
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, 3), 0);
    CHECK(open_next(AEAD_CHACHA20_POLY1305));
    CHECK_EQUAL(opened.length, 0);
    CHECK_EQUAL(opened.record->length, STREAM_LENGTH_PREFIX + DATA_MESSAGE_MIN);
    CHECK_EQUAL(opened.record->n_packets, 0);
    CHECK_EQUAL(opened.record->n_bytes, 0);
    CHECK_EQUAL(sender_counter(COUNTER_packets) + sender_counter(COUNTER_frames), 0);
    CHECK(sender_field(3, "sent_ns") > 0);
    CHECK_EQUAL(sender_field(3, "sent_data_ns"), 0);
    sender_close();
}

static void a_control_message_is_sealed_as_it_is_and_counts_as_no_packet(void) {
    static uint8_t content[EVENT_BYTES_MAX + 1] = {MESSAGE_CONTROL, 0, 0, 0, 0x81, 0xa1, 'x', 7};
    sender_open(MODE_TUN);
    sender_attach(3, sealed_format(MODE_TUN, true));
    CHECK(loop_send_control(sender.worker.loop, 3, content, 8) < 0); /* no key */
    set_key(3, AEAD_CHACHA20_POLY1305, 0);
    CHECK_EQUAL(loop_send_control(sender.worker.loop, 3, content, sizeof content), -EINVAL);
    CHECK_EQUAL(loop_send_control(sender.worker.loop, 3, content, 0), -EINVAL);
    CHECK_EQUAL(loop_send_control(sender.worker.loop, 3, content + 1, 4), -EINVAL);
    CHECK(loop_send_control(sender.worker.loop, UINT32_MAX, content, 8) < 0);
    const size_t lengths[] = {8, EVENT_BYTES_MAX};
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(loop_send_control(sender.worker.loop, 3, content, lengths[i]), 0);
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.length, lengths[i]);
        CHECK_EQUAL(memcmp(opened.content, content, lengths[i]), 0);
        CHECK_EQUAL(opened.record->n_packets, 0);
    }
    CHECK_EQUAL(sender_counter(COUNTER_packets) + sender_counter(COUNTER_frames), 0);
    CHECK_EQUAL(sender_field(3, "sent_data_ns"), 0);
    sender_close();
}

static void an_unsealed_wire_has_no_keepalives(void) {
    sender_open_wire(WIRE_PLAIN, MODE_TUN);
    sender_attach(0, plain_format(MODE_TUN, true));
    CHECK(loop_send_keepalive(sender.worker.loop, 0) < 0);
    CHECK_EQUAL(ring_used_bytes(sender.lane.ring), 0);
    sender_close();
}

static void keepalives_for_a_full_ring_are_refused_and_use_up_no_counter(void) {
    uint64_t n = 0;
    sender_open(MODE_TUN);
    sender_attach(3, sealed_format(MODE_TUN, true));
    set_key(3, AEAD_CHACHA20_POLY1305, 0);
    while (loop_send_keepalive(sender.worker.loop, 3) == 0)
        n++;
    CHECK_EQUAL(sender_field(3, "sealed"), n);
    for (uint64_t i = 0; i < n; i++) {
        CHECK(open_next(AEAD_CHACHA20_POLY1305));
        CHECK_EQUAL(opened.counter, i);
    }
    sender_release();
    CHECK_EQUAL(loop_send_keepalive(sender.worker.loop, 3), 0);
    sender_close();
}

int main(void) {
    RUN(a_keepalive_is_an_empty_message_and_counts_as_no_packet);
    RUN(a_control_message_is_sealed_as_it_is_and_counts_as_no_packet);
    RUN(an_unsealed_wire_has_no_keepalives);
    RUN(keepalives_for_a_full_ring_are_refused_and_use_up_no_counter);
    return EXIT_SUCCESS;
}
