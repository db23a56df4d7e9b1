/* The link-writer after a link has broken, what it does not count, and what should not be. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "outbound/link_writer.h"
#include "formats.h"
#include "peer_links.h"

enum { BROKEN = 0, PACKET = 1000, SEND_BUFFER = 4096 };

static struct peer_links links;

static void after_a_broken_link_is_detached_the_others_and_the_next_one_go_on(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        peer_attach(&links, slot, 0);
    shutdown(links.peers[BROKEN].fd[1], SHUT_RD);
    peer_send(&links, BROKEN, PACKET);
    CHECK_EQUAL(loop_run(links.worker.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(links.worker.loop)->kind, EVENT_LINK_ERROR);
    peer_detach(&links, BROKEN);
    peer_attach(&links, BROKEN, 0);
    peer_links_run(&links);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        peer_send(&links, slot, PACKET);
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links); /* and nothing was reported */
    for (unsigned slot = 0; slot < N_PEERS; slot++) {
        peer_read_all(&links, slot);
        CHECK(links.peers[slot].n_packets > 0);
        peer_detach(&links, slot);
    }
    peer_links_close(&links);
}

/* Three frames in one batch, the one in the middle sealed for the peer's last link: 1, 2 and 3
 * packets. */
static void what_was_sealed_for_another_link_is_left_out_of_a_batch(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 1, 0);
    CHECK(peer_commit(&links, 1, PACKET));
    struct ring_record *record = ring_reserve(links.lane.ring, 2 * PACKET);
    CHECK(peer_commit(&links, 1, PACKET));
    record->link_id = 99;
    CHECK(peer_commit(&links, 1, PACKET));
    peer_publish(&links);
    peer_links_run(&links);
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links);
    peer_read_all(&links, 1);
    CHECK_EQUAL(links.peers[1].n_packets, 1 + 3);
    CHECK_EQUAL(stats_read_drop(links.lane.stats, DROP_link_writer_no_link), 2);
    peer_detach(&links, 1);
    peer_links_close(&links);
}

static void what_was_too_long_for_a_link_that_is_gone_is_not_reported(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 1, 0);
    peer_attach(&links, 2, 0);
    struct link_writer *writer = link_writer_of(links.worker.loop);
    link_writer_note_too_long(writer, writer->links[1]);
    peer_detach(&links, 1);
    peer_send(&links, 2, PACKET);
    peer_links_run(&links);
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links); /* and nothing was reported */
    peer_detach(&links, 2);
    peer_links_close(&links);
}

/* The first frame is half out, and its rest in the link's queue; the second waits in the ring. */
static void a_links_oldest_frame_says_how_long_it_has_waited(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 1, SEND_BUFFER);
    uint64_t before_ns = clock_now_ns();
    CHECK(peer_commit(&links, 1, PEER_FRAME_MAX));
    uint64_t between_ns = clock_now_ns();
    CHECK(peer_commit(&links, 1, PEER_FRAME_MAX));
    peer_publish(&links);
    peer_links_run(&links);
    usleep(100 * 1000);
    peer_links_stop(&links);
    CHECK(ring_used_bytes(links.lane.ring) > 0);
    uint64_t since_ns = atomic_load(&links.lane.peers->by_link_writer[1].waiting_since_ns);
    CHECK(since_ns >= before_ns && since_ns <= between_ns);
    peer_detach(&links, 1);
    peer_links_close(&links);
}

static void a_handshake_message_counts_as_no_packet(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 1, 0);
    CHECK_EQUAL(peer_send_handshake(&links, 1, 0, 148), 0);
    CHECK_EQUAL(stats_read_counter(links.lane.stats, ROLE_link_writer, COUNTER_packets), 0);
    CHECK_EQUAL(stats_read_counter(links.lane.stats, ROLE_link_writer, COUNTER_frames), 0);
    CHECK_EQUAL(stats_read_queue_delay_sum_ns(links.lane.stats, ROLE_link_writer), 0);
    for (unsigned bucket = 0; bucket < N_DELAY_BUCKETS; bucket++)
        CHECK_EQUAL(stats_read_queue_delay(links.lane.stats, ROLE_link_writer, bucket), 0);
    peer_detach(&links, 1);
    peer_links_close(&links);
}

static void a_message_longer_than_any_handshake_message_is_refused(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX + 1] = {0};
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 1, 0);
    CHECK(loop_send_message(links.worker.loop, 1, message, sizeof message) < 0);
    CHECK_EQUAL(peer_send_handshake(&links, 1, 0, HANDSHAKE_BYTES_MAX), 0);
    peer_detach(&links, 1);
    peer_links_close(&links);
}

/* -- what should not be ------------------------------------------------------------------------ */

static void a_link_that_cannot_be_watched_is_not_attached(void) {
    const struct link_format format = sealed_format(MODE_TUN, true);
    peer_links_open(&links, WIRE_WIREGUARD);
    CHECK(loop_attach_link(links.worker.loop, 0, 0, -1, &format) < 0);
    CHECK_EQUAL(link_writer_of(links.worker.loop)->n_links, 0);
    CHECK(link_writer_of(links.worker.loop)->links[0] == NULL);
    CHECK(loop_attach_link(links.worker.loop, N_PEER_SLOTS, 0, -1, &format) < 0);
    peer_links_close(&links);
}

/* An impossible slot from a tun-reader gone wrong: nothing behind it is held up for ever. */
static void a_record_for_a_slot_that_does_not_exist_is_counted_on_every_wire(void) {
    const enum wire wires[] = {WIRE_WIREGUARD, WIRE_PLAIN};
    for (int i = 0; i < 2; i++) {
        peer_links_open(&links, wires[i]);
        peer_attach(&links, 0, 0);
        lane_commit(
            &links.lane,
            (struct ring_record){.length = 64, .n_packets = 5, .slot = i == 0 ? UINT32_MAX : 3});
        peer_send(&links, 0, PACKET);
        peer_links_run(&links);
        peer_links_await_empty_ring(&links);
        peer_links_stop(&links);
        CHECK_EQUAL(lane_dropped_in_all(&links.lane), 5);
        CHECK(peer_read(&links, 0, SIZE_MAX) > 0);
        peer_links_close(&links);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); /* as Python has it */
    RUN(after_a_broken_link_is_detached_the_others_and_the_next_one_go_on);
    RUN(what_was_sealed_for_another_link_is_left_out_of_a_batch);
    RUN(what_was_too_long_for_a_link_that_is_gone_is_not_reported);
    RUN(a_links_oldest_frame_says_how_long_it_has_waited);
    RUN(a_handshake_message_counts_as_no_packet);
    RUN(a_message_longer_than_any_handshake_message_is_refused);
    RUN(a_link_that_cannot_be_watched_is_not_attached);
    RUN(a_record_for_a_slot_that_does_not_exist_is_counted_on_every_wire);
    return EXIT_SUCCESS;
}
