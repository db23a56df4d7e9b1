/* The link-reader before a peer that breaks the rules: for each way, the one reason it is counted
 * under and how the loop ends. The stream is written whole and closed, so the loop runs in this
 * thread and returns by itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "packet/byteorder.h"
#include "check.h"
#include "formats.h"
#include "frames.h"
#include "sockets.h"
#include "worker_thread.h"

enum { RING_BYTES = 1 << 20, NO_DROP = N_DROPS };

struct reader {
    struct lane_memory lane;
    struct worker_thread worker;
    int stream[2]; /* the loop's, the peer's */
    uint32_t link_id;
};

static struct link_format tun, tap, original; /* of the plain wire, and simpletun's */

static void connect_link(struct reader *reader, const struct link_format *format) {
    pair_open(reader->stream, SOCK_STREAM | SOCK_NONBLOCK);
    set_send_buffer(reader->stream[1], 1 << 20);
    CHECK_EQUAL(
        loop_attach_link(reader->worker.loop, 0, ++reader->link_id, reader->stream[0], format), 0);
}

static void reader_open(struct reader *reader, const struct link_format *format) {
    *reader = (struct reader){0};
    lane_memory_open(&reader->lane, RING_BYTES);
    worker_open(&reader->worker, ROLE_link_reader, format->wire, format->mode, &reader->lane, -1);
    connect_link(reader, format);
}

static void reader_close(struct reader *reader) {
    worker_close(&reader->worker);
    lane_memory_close(&reader->lane);
    pair_close(reader->stream);
}

static void send_bytes(struct reader *reader, const void *bytes, size_t length) {
    CHECK_EQUAL(write(reader->stream[1], bytes, length), length);
}

static void send_message(struct reader *reader, const void *message, size_t length) {
    uint8_t prefix[STREAM_LENGTH_PREFIX];
    be16_write(prefix, (uint16_t)length);
    send_bytes(reader, prefix, sizeof prefix);
    send_bytes(reader, message, length);
}

static void send_good_packet(struct reader *reader) {
    const uint8_t packet[IPV4_HEADER_SIZE] = {0x45};
    send_message(reader, packet, sizeof packet);
}

/* Runs until the link has ended; returns why. */
static enum event_kind run_on(struct reader *reader) {
    CHECK_EQUAL(loop_run(reader->worker.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(reader->worker.loop)->slot, 0);
    CHECK_EQUAL(loop_event(reader->worker.loop)->link_id, reader->link_id);
    return loop_event(reader->worker.loop)->kind;
}

static enum event_kind run_to_the_end(struct reader *reader) {
    CHECK_EQUAL(shutdown(reader->stream[1], SHUT_WR), 0);
    return run_on(reader);
}

static uint64_t counter(struct reader *reader, enum stats_counter counter) {
    return stats_read_counter(reader->lane.stats, ROLE_link_reader, counter);
}

/* `n_passed` frames are in the ring; `n_dropped` were dropped for this reason, none for another;
 * taken in = both. */
static void check_counts(struct reader *reader, size_t n_passed, unsigned reason,
                         size_t n_dropped) {
    CHECK_EQUAL(lane_count_records(&reader->lane), n_passed);
    CHECK_EQUAL(counter(reader, COUNTER_packets), n_passed + n_dropped);
    lane_check_dropped(&reader->lane, reason, n_dropped);
}

/* -- the framing ------------------------------------------------------------------------------- */

static void a_peer_that_closes_between_frames_is_not_a_fault(void) {
    struct reader reader;
    reader_open(&reader, &tun);
    send_good_packet(&reader);
    send_good_packet(&reader);
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_CLOSED);
    check_counts(&reader, 2, NO_DROP, 0);
    reader_close(&reader);
}

static void a_length_of_0_ends_the_link(void) {
    struct reader reader;
    reader_open(&reader, &tun);
    send_good_packet(&reader);
    send_bytes(&reader, "\0", 2);
    send_good_packet(&reader); /* comes too late */
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_FAULT);
    check_counts(&reader, 1, DROP_link_reader_bad_length, 1);
    reader_close(&reader);
}

static void a_length_over_the_limit_ends_the_link_before_its_bytes_come(void) {
    struct reader reader;
    uint8_t prefix[STREAM_LENGTH_PREFIX];
    for (size_t length = SIMPLETUN_MESSAGE_MAX; length <= SIMPLETUN_MESSAGE_MAX + 1; length++) {
        bool is_over = length > SIMPLETUN_MESSAGE_MAX;
        reader_open(&reader, &original);
        be16_write(prefix, (uint16_t)length);
        send_bytes(&reader, prefix, sizeof prefix);
        CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_FAULT);
        check_counts(&reader, 0, is_over ? DROP_link_reader_bad_length : DROP_link_reader_truncated,
                     1);
        reader_close(&reader);
    }
}

static void a_stream_cut_anywhere_inside_a_frame_is_a_fault(void) {
    const uint8_t stream[] = {0, IPV4_HEADER_SIZE, 0x45, [2 + IPV4_HEADER_SIZE - 1] = 0};
    struct reader reader;
    for (size_t n = 1; n < sizeof stream; n++) {
        reader_open(&reader, &tun);
        send_good_packet(&reader);
        send_bytes(&reader, stream, n);
        CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_FAULT);
        check_counts(&reader, 1, DROP_link_reader_truncated, 1);
        reader_close(&reader);
    }
}

static void the_next_link_begins_with_its_own_first_byte(void) {
    struct reader reader;
    reader_open(&reader, &tun);
    send_bytes(&reader, "\0\0garbage behind the fault", 20);
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_FAULT);
    close(reader.stream[0]);
    close(reader.stream[1]);
    connect_link(&reader, &tun);
    send_good_packet(&reader);
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_CLOSED);
    check_counts(&reader, 1, DROP_link_reader_bad_length, 1);
    reader_close(&reader);
}

/* A local socket is reset when its peer closes without having read everything. */
static void reset(struct reader *reader) {
    CHECK_EQUAL(write(reader->stream[0], "!", 1), 1);
    close(reader->stream[1]);
    reader->stream[1] = dup(reader->stream[0]);
}

static void a_socket_error_is_reported_with_its_errno(void) {
    struct reader reader;
    reader_open(&reader, &tun);
    reset(&reader);
    CHECK_EQUAL(run_on(&reader), EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(reader.worker.loop)->error, ECONNRESET);
    check_counts(&reader, 0, NO_DROP, 0);
    reader_close(&reader);
}

/* A reset inside a frame loses that frame as surely as a close does. */
static void a_frame_lost_to_a_reset_is_counted(void) {
    struct reader reader;
    reader_open(&reader, &tun);
    send_good_packet(&reader);
    send_bytes(&reader, "\0\x40\x45", 3);
    reset(&reader);
    CHECK_EQUAL(run_on(&reader), EVENT_LINK_ERROR);
    check_counts(&reader, 1, DROP_link_reader_truncated, 1);
    reader_close(&reader);
}

/* -- the messages ------------------------------------------------------------------------------ */

/* Sends the message between two good packets: it is dropped for `reason`, they arrive. */
static void check_dropped(const struct link_format *format, const void *message, size_t length,
                          unsigned reason) {
    struct reader reader;
    reader_open(&reader, format);
    send_good_packet(&reader);
    send_message(&reader, message, length);
    send_good_packet(&reader);
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_CLOSED);
    check_counts(&reader, 2, reason, 1);
    reader_close(&reader);
}

static void a_payload_that_is_not_ip_is_dropped_and_the_next_one_passes(void) {
    const uint8_t noise[60] = {0x55}, stump[IPV4_HEADER_SIZE - 1] = {0x45};
    const uint8_t stump6[IPV6_HEADER_SIZE - 1] = {0x60};
    check_dropped(&tun, noise, sizeof noise, DROP_link_reader_not_ip);
    check_dropped(&tun, stump, sizeof stump, DROP_link_reader_not_ip);
    check_dropped(&original, noise, sizeof noise, DROP_link_reader_not_ip);
    check_dropped(&original, stump6, sizeof stump6, DROP_link_reader_not_ip);
    check_dropped(&original, noise, 1, DROP_link_reader_not_ip);
}

static void a_message_type_that_was_not_offered_is_dropped(void) {
    struct link_format no_super = tun;
    uint8_t message[60] = {MESSAGE_ETHERNET};
    no_super.super_inbound = false;
    check_dropped(&tun, message, sizeof message, DROP_link_reader_bad_type);
    message[0] = MESSAGE_SUPER;
    check_dropped(&no_super, message, sizeof message, DROP_link_reader_bad_type);
}

/* The hello has ended when the link is handed to the lane: no one here reads a control message. */
static void a_late_control_message_is_a_bad_type_in_both_modes(void) {
    const uint8_t message[60] = {MESSAGE_CONTROL};
    struct reader reader;
    check_dropped(&tun, message, sizeof message, DROP_link_reader_bad_type);
    reader_open(&reader, &tap);
    send_message(&reader, message, sizeof message);
    CHECK_EQUAL(run_to_the_end(&reader), EVENT_LINK_CLOSED);
    check_counts(&reader, 0, DROP_link_reader_bad_type, 1);
    reader_close(&reader);
}

static void a_garbage_virtio_header_is_dropped_and_the_next_one_passes(void) {
    struct random random = {77};
    uint8_t message[MESSAGE_TYPE_LENGTH + VNET_LENGTH + 60] = {MESSAGE_SUPER};
    for (int i = 0; i < 300; i++) {
        random_fill(&random, message + MESSAGE_TYPE_LENGTH, VNET_LENGTH);
        message[MESSAGE_TYPE_LENGTH] |= 0x80; /* a flag that does not exist */
        message[MESSAGE_TYPE_LENGTH + VNET_LENGTH] = 0x45;
        check_dropped(&tun, message, sizeof message, DROP_link_reader_bad_virtio);
    }
    check_dropped(&tun, message, MESSAGE_TYPE_LENGTH + VNET_LENGTH - 1,
                  DROP_link_reader_bad_virtio);
    check_dropped(&tun, message, MESSAGE_TYPE_LENGTH + VNET_LENGTH, DROP_link_reader_not_ip);
}

int main(void) {
    tun = plain_format(MODE_TUN, true);
    tap = plain_format(MODE_TAP, true);
    original = simpletun_format(MODE_TUN);
    RUN(a_peer_that_closes_between_frames_is_not_a_fault);
    RUN(a_length_of_0_ends_the_link);
    RUN(a_length_over_the_limit_ends_the_link_before_its_bytes_come);
    RUN(a_stream_cut_anywhere_inside_a_frame_is_a_fault);
    RUN(the_next_link_begins_with_its_own_first_byte);
    RUN(a_socket_error_is_reported_with_its_errno);
    RUN(a_payload_that_is_not_ip_is_dropped_and_the_next_one_passes);
    RUN(a_message_type_that_was_not_offered_is_dropped);
    RUN(a_garbage_virtio_header_is_dropped_and_the_next_one_passes);
    RUN(a_frame_lost_to_a_reset_is_counted);
    RUN(a_late_control_message_is_a_bad_type_in_both_modes);
    return EXIT_SUCCESS;
}
