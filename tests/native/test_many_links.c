/* The link-writer with several peers: none delays another, and each frame arrives whole and in
 * order or is counted on its peer's name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "outbound/link_writer.h"
#include "check.h"
#include "formats.h"
#include "peer_links.h"
#include "random.h"

enum { SNDBUF_LEAST = 1, FROZEN = 0, PACKET = 1200 };

static struct peer_links links;

static uint64_t drop_count(enum stats_drop drop) {
    return stats_read_drop(links.lane.stats, drop);
}

/* At rest and with no link left: published = taken by the sockets + dropped, peer by peer; and what
 * the sockets took, the peers have seen. */
static void check_balance(void) {
    uint64_t n_published = 0, n_sent = 0, n_bytes = 0;
    CHECK_EQUAL(ring_used_bytes(links.lane.ring), 0);
    for (unsigned slot = 0; slot < N_PEERS; slot++) {
        const struct peer_end *peer = &links.peers[slot];
        CHECK_EQUAL(lane_peer_field(&links.lane, slot, "transmit_packets"), peer->n_packets);
        CHECK_EQUAL(lane_peer_field(&links.lane, slot, "transmit_bytes"), peer->n_frame_bytes);
        CHECK_EQUAL(lane_peer_field(&links.lane, slot, "dropped_packets"),
                    links.n_packets[slot] - peer->n_packets);
        n_published += links.n_packets[slot];
        n_sent += peer->n_packets;
        n_bytes += peer->n_frame_bytes;
    }
    CHECK_EQUAL(stats_read_counter(links.lane.stats, ROLE_link_writer, COUNTER_packets), n_sent);
    CHECK_EQUAL(stats_read_counter(links.lane.stats, ROLE_link_writer, COUNTER_bytes), n_bytes);
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), n_published - n_sent);
}

static void stop_and_detach_all(void) {
    peer_links_stop(&links);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        if (links.peers[slot].fd[0] >= 0)
            peer_detach(&links, slot);
}

static void open_all(int send_buffer) {
    peer_links_open(&links, WIRE_WIREGUARD);
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        peer_attach(&links, slot, send_buffer);
}

/* The peer waits for its frame, which must come although others do not read. */
static void await_frame(unsigned slot, uint32_t number) {
    for (int i = 0; links.peers[slot].next_frame <= number; i++) {
        CHECK(i < 100000);
        if (peer_read(&links, slot, SIZE_MAX) == 0)
            usleep(50);
    }
}

/* The peer reads all but what was dropped, however long a busy machine takes. */
static void await_queued(unsigned slot, uint64_t n_dropped) {
    for (int i = 0; links.peers[slot].n_packets + n_dropped < links.n_packets[slot]; i++) {
        CHECK(i < 100000);
        if (peer_read(&links, slot, SIZE_MAX) == 0)
            usleep(50);
    }
}

/* -- a peer that does not read ----------------------------------------------------------------- */

static void a_frozen_peer_delays_no_other_and_what_does_not_fit_is_counted_as_its_own(void) {
    enum { N_FRAMES = 6000 };
    open_all(SNDBUF_LEAST);
    peer_links_run(&links);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        for (unsigned slot = 0; slot < N_PEERS; slot++)
            peer_send(&links, slot, PACKET);
        for (unsigned slot = 1; slot < N_PEERS; slot++)
            await_frame(slot, i);
    }
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links);
    const struct link_queue *queue = &link_writer_of(links.worker.loop)->links[FROZEN]->queue;
    CHECK(queue->end <= LINK_QUEUE_BYTES);
    CHECK(queue->end - queue->start > LINK_QUEUE_BYTES - 2 * PACKET); /* used to its end */
    CHECK(drop_count(DROP_link_writer_link_full) > 0);
    CHECK_EQUAL(lane_peer_field(&links.lane, FROZEN, "dropped_packets"),
                drop_count(DROP_link_writer_link_full));
    for (unsigned slot = 1; slot < N_PEERS; slot++) {
        CHECK_EQUAL(lane_peer_field(&links.lane, slot, "dropped_packets"), 0);
        CHECK_EQUAL(links.peers[slot].n_packets, links.n_packets[slot]);
    }
    peer_links_run(&links);
    await_queued(FROZEN, drop_count(DROP_link_writer_link_full)); /* in order */
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), drop_count(DROP_link_writer_link_full));
    check_balance();
    peer_links_close(&links);
}

static void a_peer_that_reads_again_gets_what_was_queued_and_then_the_new(void) {
    open_all(SNDBUF_LEAST);
    peer_links_run(&links);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 100; i++)
            peer_send(&links, FROZEN, PACKET);
        peer_links_await_empty_ring(&links);
        peer_read_all(&links, FROZEN);
        CHECK_EQUAL(links.peers[FROZEN].n_packets, links.n_packets[FROZEN]);
    }
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    check_balance();
    peer_links_close(&links);
}

static void a_link_that_breaks_is_reported_once_and_the_others_go_on(void) {
    open_all(0);
    shutdown(links.peers[FROZEN].fd[1], SHUT_RD);
    peer_send(&links, FROZEN, PACKET);
    peer_send(&links, 1, PACKET);
    peer_send(&links, FROZEN, PACKET);
    CHECK_EQUAL(loop_run(links.worker.loop), LOOP_EVENT);
    const struct loop_event *event = loop_event(links.worker.loop);
    CHECK_EQUAL(event->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(event->slot, FROZEN);
    CHECK_EQUAL(event->error, EPIPE);
    peer_links_run(&links); /* and it must not be reported again */
    for (int i = 0; i < 50; i++) {
        peer_send(&links, FROZEN, PACKET);
        peer_send(&links, 2, PACKET);
    }
    peer_links_await_empty_ring(&links);
    stop_and_detach_all();
    CHECK_EQUAL(links.peers[1].n_packets, links.n_packets[1]);
    CHECK_EQUAL(links.peers[2].n_packets, links.n_packets[2]);
    CHECK_EQUAL(lane_peer_field(&links.lane, FROZEN, "dropped_packets"), links.n_packets[FROZEN]);
    check_balance();
    peer_links_close(&links);
}

/* -- the only link ----------------------------------------------------------------------------- */

static size_t fill_ring(unsigned slot) {
    size_t n = 0;
    for (int quiet = 0; quiet < 200;) {
        if (peer_commit(&links, slot, PACKET)) {
            peer_publish(&links);
            n++;
            quiet = 0;
        } else {
            usleep(100);
            quiet++;
        }
    }
    return n;
}

static void check_only_link(enum wire wire) {
    peer_links_open(&links, wire);
    peer_attach(&links, 0, SNDBUF_LEAST);
    peer_links_run(&links);
    size_t n = fill_ring(0);
    CHECK(n < 2 * PEER_RING_BYTES / PACKET); /* the ring pushes back: nothing is dropped */
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    CHECK(stats_read_call(links.lane.stats, ROLE_link_writer, CALL_epoll_wait) <
          100); /* and it sleeps */
    CHECK(lane_peer_field(&links.lane, 0, "waiting_since_ns") > 0);
    peer_read_all(&links, 0);
    CHECK_EQUAL(links.peers[0].next_frame, n);
    peer_links_await_empty_ring(&links);
    CHECK_EQUAL(lane_peer_field(&links.lane, 0, "waiting_since_ns"), 0);
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    check_balance();
    peer_links_close(&links);
}

static void the_only_link_holds_its_frames_in_the_ring_and_drops_none(void) {
    check_only_link(WIRE_WIREGUARD);
    check_only_link(WIRE_PLAIN);
}

static void a_second_link_sets_the_ring_free_that_the_first_one_held(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, FROZEN, SNDBUF_LEAST);
    peer_links_run(&links);
    fill_ring(FROZEN);
    peer_links_stop(&links);
    peer_attach(&links, 1, 0);
    peer_links_run(&links);
    peer_links_await_empty_ring(&links);
    peer_send(&links, 1, PACKET);
    await_frame(1, 0);
    peer_read_all(&links, FROZEN);
    CHECK_EQUAL(links.peers[FROZEN].n_packets, links.n_packets[FROZEN]);
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    check_balance();
    peer_links_close(&links);
}

/* Two links, then one that is full: what is in its queue goes out before what is in the
 * ring. */
static void the_last_link_left_keeps_its_order_from_queue_to_ring(void) {
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, FROZEN, SNDBUF_LEAST);
    peer_attach(&links, 1, 0);
    peer_links_run(&links);
    for (int i = 0; i < 100; i++)
        peer_send(&links, FROZEN, PACKET);
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links);
    CHECK(!link_queue_is_empty(&link_writer_of(links.worker.loop)->links[FROZEN]->queue));
    peer_detach(&links, 1);
    peer_links_run(&links);
    fill_ring(FROZEN);
    peer_read_all(&links, FROZEN);
    CHECK_EQUAL(links.peers[FROZEN].n_packets, links.n_packets[FROZEN]);
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    check_balance();
    peer_links_close(&links);
}

/* -- handshake messages ------------------------------------------------------------------------ */

static void check_handshake_behind_half_a_frame(unsigned n_links) {
    peer_links_open(&links, WIRE_WIREGUARD);
    for (unsigned slot = 0; slot < n_links; slot++)
        peer_attach(&links, slot, SNDBUF_LEAST);
    peer_links_run(&links);
    peer_send(&links, 0, PEER_FRAME_MAX);
    peer_send(&links, 0, PACKET);
    usleep(20 * 1000);
    peer_links_stop(&links);
    CHECK(!link_queue_is_empty(&link_writer_of(links.worker.loop)->links[0]->queue)); /* half out */
    CHECK_EQUAL(links.peers[0].n_packets, 0);
    CHECK_EQUAL(peer_send_handshake(&links, 0, 0, HANDSHAKE_BYTES_MAX), 0);
    CHECK_EQUAL(peer_send_handshake(&links, 0, 1, 64), 0);
    peer_links_run(&links);
    peer_send(&links, 0, PACKET);
    peer_read_all(&links, 0);
    CHECK_EQUAL(links.peers[0].next_frame, 3);
    CHECK_EQUAL(links.peers[0].n_handshakes, 2);
    stop_and_detach_all();
    CHECK_EQUAL(lane_dropped_in_all(&links.lane), 0);
    check_balance(); /* a handshake message counts as none */
    peer_links_close(&links);
}

static void a_handshake_message_waits_for_the_end_of_the_frame_that_is_half_out(void) {
    check_handshake_behind_half_a_frame(1);
    check_handshake_behind_half_a_frame(N_PEERS);
}

static void a_handshake_message_on_an_idle_link_goes_at_once(void) {
    open_all(0);
    CHECK_EQUAL(peer_send_handshake(&links, 2, 0, HANDSHAKE_BYTES_MAX), 0);
    CHECK_EQUAL(peer_read(&links, 2, SIZE_MAX), STREAM_LENGTH_PREFIX + HANDSHAKE_BYTES_MAX);
    CHECK_EQUAL(links.peers[2].n_handshakes, 1);
    peer_links_close(&links);
}

static void a_handshake_message_too_long_or_for_no_peer_is_refused(void) {
    uint8_t message[HANDSHAKE_BYTES_MAX + 1] = {0};
    peer_links_open(&links, WIRE_WIREGUARD);
    peer_attach(&links, 0, 0);
    struct loop *loop = links.worker.loop;
    CHECK(loop_send_message(loop, 0, message, sizeof message) < 0);
    CHECK(loop_send_message(loop, 1, message, 64) < 0);
    CHECK(loop_send_message(loop, N_PEER_SLOTS, message, 64) < 0);
    CHECK(loop_send_message(loop, UINT32_MAX, message, 64) < 0);
    CHECK_EQUAL(peer_read(&links, 0, SIZE_MAX), 0);
    peer_links_close(&links);
}

static void a_handshake_message_on_a_broken_link_does_not_crash_and_the_break_is_reported(void) {
    open_all(0);
    shutdown(links.peers[FROZEN].fd[1], SHUT_RD);
    peer_send_handshake(&links, FROZEN, 0, 64);
    CHECK_EQUAL(loop_run(links.worker.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(links.worker.loop)->kind, EVENT_LINK_ERROR);
    CHECK_EQUAL(loop_event(links.worker.loop)->slot, FROZEN);
    CHECK(peer_send_handshake(&links, FROZEN, 1, 64) < 0);
    peer_links_close(&links);
}

/* -- everything at once ------------------------------------------------------------------------ */

static void change_links(struct random *random) {
    unsigned slot = (unsigned)random_below(random, N_PEERS);
    peer_links_stop(&links);
    if (links.peers[slot].fd[0] >= 0 && random_below(random, 4) == 0)
        peer_detach(&links, slot);
    else if (links.peers[slot].fd[0] < 0)
        peer_attach(&links, slot, random_below(random, 3) == 0 ? 0 : SNDBUF_LEAST);
    if (random_below(random, 2) == 0)
        peer_links_take_turns(&links);
    peer_links_run(&links);
}

static void send_handshake(struct random *random, uint32_t *n_sent) {
    unsigned slot = (unsigned)random_below(random, N_PEERS);
    peer_links_stop(&links);
    if (links.peers[slot].fd[0] >= 0) {
        size_t length = PEER_FRAME_MIN + random_below(random, HANDSHAKE_BYTES_MAX - PEER_FRAME_MIN);
        if (peer_send_handshake(&links, slot, n_sent[slot], length) == 0)
            n_sent[slot]++;
    }
    peer_links_run(&links);
}

static void publish_some(struct random *random) {
    size_t n = 1 + random_below(random, 60);
    for (; n > 0; n--) {
        size_t bound = random_below(random, 16) == 0 ? PEER_FRAME_MAX : 1500;
        size_t length = PEER_FRAME_MIN + random_below(random, bound - PEER_FRAME_MIN + 1);
        if (!peer_commit(&links, (unsigned)random_below(random, N_PEERS), length)) {
            peer_publish(&links);
            usleep(200); /* the loop's turn */
            return;
        }
    }
    peer_publish(&links);
}

static void read_some(struct random *random) {
    for (unsigned slot = 1; slot < N_PEERS; slot++) /* the first one is read at its end only */
        if (links.peers[slot].fd[1] >= 0 && random_below(random, 2) == 0)
            peer_read(&links, slot, 1 + random_below(random, 20000));
}

static void whatever_happens_frames_stay_whole_and_in_order_and_the_counters_balance(void) {
    struct random random = {2024};
    uint32_t n_handshakes[N_PEERS] = {0};
    open_all(SNDBUF_LEAST);
    peer_links_run(&links);
    for (int step = 0; step < 30000; step++) {
        size_t what = random_below(&random, 512);
        if (what < 2) {
            change_links(&random);
            for (unsigned slot = 0; slot < N_PEERS; slot++)
                if (links.peers[slot].fd[0] < 0)
                    n_handshakes[slot] = 0;
        } else if (what < 8) {
            send_handshake(&random, n_handshakes);
        } else if (what < 256) {
            read_some(&random);
        } else {
            publish_some(&random);
        }
    }
    peer_links_stop(&links); /* the first peer may be the only one, and then its ring is held */
    for (unsigned slot = 0; slot < N_PEERS; slot++)
        if (links.peers[slot].fd[0] >= 0)
            peer_detach(&links, slot);
    peer_links_run(&links);
    peer_links_await_empty_ring(&links);
    peer_links_stop(&links);
    printf(
        "        %llu packets sent; full %llu, ended %llu, no link %llu\n",
        (unsigned long long)stats_read_counter(links.lane.stats, ROLE_link_writer, COUNTER_packets),
        (unsigned long long)drop_count(DROP_link_writer_link_full),
        (unsigned long long)drop_count(DROP_link_writer_link_ended),
        (unsigned long long)drop_count(DROP_link_writer_no_link));
    CHECK(drop_count(DROP_link_writer_link_full) > 0); /* else it was no test */
    CHECK(drop_count(DROP_link_writer_link_ended) > 0);
    CHECK(drop_count(DROP_link_writer_no_link) > 0);
    check_balance();
    peer_links_close(&links);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN); /* as Python has it */
    RUN(a_frozen_peer_delays_no_other_and_what_does_not_fit_is_counted_as_its_own);
    RUN(a_peer_that_reads_again_gets_what_was_queued_and_then_the_new);
    RUN(a_link_that_breaks_is_reported_once_and_the_others_go_on);
    RUN(the_only_link_holds_its_frames_in_the_ring_and_drops_none);
    RUN(a_second_link_sets_the_ring_free_that_the_first_one_held);
    RUN(the_last_link_left_keeps_its_order_from_queue_to_ring);
    RUN(a_handshake_message_waits_for_the_end_of_the_frame_that_is_half_out);
    RUN(a_handshake_message_on_an_idle_link_goes_at_once);
    RUN(a_handshake_message_too_long_or_for_no_peer_is_refused);
    RUN(a_handshake_message_on_a_broken_link_does_not_crash_and_the_break_is_reported);
    RUN(whatever_happens_frames_stay_whole_and_in_order_and_the_counters_balance);
    return EXIT_SUCCESS;
}
