/* uplink: when it is full, and how much the kernel gets then, by a clock and a network of the test's
 * own. */
#include "outbound/uplink.h"

#include "check.h"

#define MS    1000000ull
#define START 1000000000ull

/* -- whether it is full ------------------------------------------------------------------------ */

/* Looks every 5 ms for `n_ms`; each time the kernel has `n_unsent` bytes and got as many more as have
 * left at `rate`. Returns after how many ms it was full, or 0. */
static unsigned look_for(struct uplink *uplink, unsigned n_ms, uint64_t n_unsent, uint64_t rate) {
    for (unsigned ms = UPLINK_LOOK_MS; ms <= n_ms; ms += UPLINK_LOOK_MS)
        if (uplink_is_full(uplink, n_unsent, rate * UPLINK_LOOK_MS / 1000, START + ms * MS))
            return ms;
    return 0;
}

static void it_is_full_when_packets_wait_for_longer_than_a_few_ms_all_the_time(void) {
    struct uplink uplink = {.looked_ns = START};
    unsigned after_ms = look_for(&uplink, 100, 600000, 12500000);
    CHECK(after_ms >= UPLINK_FULL_MS && after_ms <= UPLINK_FULL_MS + 2 * UPLINK_LOOK_MS);
    CHECK(uplink.rate > 12000000 && uplink.rate < 13000000);
    uplink = (struct uplink){.looked_ns = START};
    CHECK(look_for(&uplink, 100, 600000, 0) > 0); /* and what does not leave at all */
}

/* A network card of 10 Gbit/s has 0.1 ms of it, a processor that is late a millisecond. */
static void it_is_not_when_they_leave_at_once_however_many_they_are(void) {
    struct uplink uplink = {.looked_ns = START};
    CHECK_EQUAL(look_for(&uplink, 1000, 125000, 1250000000), 0);
    uplink = (struct uplink){.looked_ns = START};
    CHECK_EQUAL(look_for(&uplink, 1000, 1250000, 1250000000), 0);
    uplink = (struct uplink){.looked_ns = START};
    CHECK_EQUAL(look_for(&uplink, 1000, 9000, 1000000), 0); /* some datagrams do not count */
}

static void it_is_not_when_it_takes_each_burst_before_the_next(void) {
    struct uplink uplink = {.looked_ns = START};
    for (unsigned ms = 5; ms < 1000; ms += 5)
        CHECK(!uplink_is_full(&uplink, ms % 20 == 0 ? 0 : 600000, 625000, START + ms * MS));
}

/* -- how much the kernel gets ------------------------------------------------------------------ */

enum { PACKET = 2304, FAST = 19000000 /* 100 Mbit/s */ };
#define PACKET_S (PACKET * 1000 * MS) /* in bytes * ns, so that nothing is lost in small steps */

/* A network that carries whole packets at `rate`, and for which a shaper saves up to so many while it
 * has none; the worker looks after the time that it is asked to sleep and `late_ns` more, and hands
 * over what there is room for. */
struct network {
    uint64_t rate, now_ns, n_saved_max, saved, n_packets, n_carried, n_looks, waited_ns;
};

static uint64_t queued(const struct network *network) {
    return network->n_packets * PACKET;
}

static void carry(struct network *network, uint64_t ns) {
    network->now_ns += ns;
    network->saved += network->rate * ns;
    for (; network->n_packets > 0 && network->saved >= PACKET_S; network->n_packets--) {
        network->saved -= PACKET_S;
        network->n_carried += PACKET;
    }
    uint64_t most = network->n_saved_max * PACKET_S;
    if (network->n_packets == 0 && network->saved > most)
        network->saved = most;
}

/* Meanwhile other peers' packets come all the time, and wait until the next look, where they are sent
 * as the first, and for what the kernel has until then. */
static void sleep_for(struct network *network, uint64_t ns) {
    for (uint64_t step; ns > 0; ns -= step) {
        step = ns < 10000 ? ns : 10000;
        carry(network, step);
        uint64_t all = network->n_packets * PACKET_S;
        uint64_t leaves_ns = all > network->saved ? (all - network->saved) / network->rate : 0;
        network->waited_ns += step * (ns > leaves_ns ? ns : leaves_ns) / MS;
    }
}

static void hand_over(struct uplink *uplink, struct network *network) {
    while (uplink_room(uplink) > 0) {
        network->n_packets++;
        carry(network, 1000);
        uplink_handed(uplink, PACKET, queued(network));
    }
}

/* Returns the most that was queued behind a look. */
static uint64_t run_for(struct uplink *uplink, struct network *network, unsigned n_ms,
                        uint64_t late_ns) {
    uint64_t end_ns = network->now_ns + n_ms * MS, most = 0;
    network->n_carried = network->n_looks = network->waited_ns = 0;
    while (network->now_ns < end_ns) {
        uplink_look(uplink, queued(network), true, network->now_ns);
        hand_over(uplink, network);
        most = queued(network) > most ? queued(network) : most;
        network->n_looks++;
        sleep_for(network, uplink_sleep_ns(uplink) + late_ns);
    }
    return most;
}

static struct uplink full_at(uint64_t rate, uint64_t now_ns) {
    return (struct uplink){
        .rate = rate,
        .wait_ns = UPLINK_WAIT_FIRST_NS,
        .looked_ns = now_ns,
        .moved_ns = now_ns,
        .begun_ns = now_ns,
        .dry_ns = now_ns,
        .has_probe = true,
    };
}

static void the_network_is_kept_busy_by_little_whatever_its_rate(void) {
    for (uint64_t rate = 250000; rate <= 1250000000; rate *= 5) {
        struct uplink uplink = full_at(rate * 2 / 3, START);
        struct network network = {.rate = rate, .now_ns = START};
        run_for(&uplink, &network, 1000, 30000);
        uint64_t most = run_for(&uplink, &network, 1000, 30000);
        CHECK(network.n_carried >= rate / 100 * 95);
        CHECK(most <= 5 * PACKET || most <= rate / 1000);
        CHECK(network.n_looks < 12000);
    }
}

static void what_comes_first_waits_for_a_packet_or_two(void) {
    for (unsigned n_saved_max = 0; n_saved_max <= 10; n_saved_max += 10) {
        struct uplink uplink = full_at(FAST, START);
        struct network network = {.rate = FAST, .n_saved_max = n_saved_max, .now_ns = START};
        run_for(&uplink, &network, 1000, 30000);
        run_for(&uplink, &network, 1000, 30000);
        CHECK(network.n_carried >= FAST / 100 * (n_saved_max > 0 ? 99 : 97));
        CHECK(network.waited_ns / 1000 < 250000); /* on average of the second; one takes 120 */
    }
}

/* What a shaper has saved up meanwhile makes up for it. */
static void a_late_worker_costs_no_queue_where_a_shaper_makes_up_for_it(void) {
    struct uplink uplink = full_at(FAST, START);
    struct network network = {.rate = FAST, .n_saved_max = 10, .now_ns = START};
    run_for(&uplink, &network, 1000, MS / 2);
    run_for(&uplink, &network, 1000, MS / 2);
    CHECK(uplink.wait_ns < 2 * UPLINK_WAIT_MIN_NS);
    CHECK(network.n_carried >= FAST / 100 * 98);
}

/* A longer queue would not make up for it. */
static void a_pause_now_and_then_makes_no_longer_queue(void) {
    struct uplink uplink = full_at(FAST, START);
    struct network network = {.rate = FAST, .now_ns = START};
    run_for(&uplink, &network, 1000, 30000);
    uint64_t wait_ns = uplink.wait_ns, most = wait_ns;
    for (int i = 0; i < 20; i++) {
        run_for(&uplink, &network, 100, 30000);
        sleep_for(&network, 20 * MS);
        most = uplink.wait_ns > most ? uplink.wait_ns : most;
    }
    CHECK(most < 2 * wait_ns);
}

static void a_worker_that_is_late_gives_more_and_one_that_is_not_less(void) {
    struct uplink uplink = full_at(12500000, START);
    struct network network = {.rate = 12500000, .now_ns = START};
    run_for(&uplink, &network, 1000, 50000);
    uint64_t in_time = run_for(&uplink, &network, 1000, 50000);
    run_for(&uplink, &network, 1000, 2 * MS);
    uint64_t late = run_for(&uplink, &network, 1000, 2 * MS);
    CHECK(late > 2 * in_time);
    CHECK(network.n_carried >= 12500000 / 100 * 80); /* it would be a tenth */
    CHECK(uplink.wait_ns < 4 * MS);                  /* and the rest is not worth more */
    run_for(&uplink, &network, 4000, 50000);
    CHECK(run_for(&uplink, &network, 1000, 50000) < late / 2);
}

static void a_network_that_becomes_slower_or_faster_is_followed(void) {
    struct uplink uplink = full_at(12500000, START);
    struct network network = {.rate = 12500000, .now_ns = START};
    run_for(&uplink, &network, 500, 50000);
    network.rate = 1250000;
    run_for(&uplink, &network, 2000, 50000);
    CHECK(uplink.rate < 1500000);
    network.rate = 125000000;
    run_for(&uplink, &network, 1000, 50000);
    CHECK(uplink.rate > 100000000);
}

static void what_does_not_leave_stops_the_rest_for_a_moment_only(void) {
    struct uplink uplink = full_at(12500000, START);
    uint64_t stuck = 1000000, now_ns = START;
    do {
        CHECK(now_ns < START + 2ull * UPLINK_STUCK_MAX_NS);
        uplink_look(&uplink, stuck, true, now_ns += MS);
    } while (uplink_room(&uplink) == 0);
    CHECK(uplink.n_stuck > stuck - stuck / 512);
    uplink_look(&uplink, 0, true, now_ns); /* it has left after all */
    CHECK_EQUAL(uplink.n_stuck, 0);
    CHECK_EQUAL(uplink_room(&uplink), uplink_limit(&uplink));
}

/* Two peers in turn, of whose packets those of one stay in the kernel, as for a neighbour that does not
 * answer: the kernel keeps some 200 KiB of them and drops the rest. */
static void a_peer_whose_packets_all_stay_does_not_stop_another(void) {
    for (uint64_t rate = 1250000; rate <= 125000000; rate *= 10) {
        struct uplink uplink = full_at(rate, START);
        struct network network = {.rate = rate, .now_ns = START};
        uint64_t n_kept = 0, most = 208 * 1024;
        unsigned turn = 0;
        while (network.now_ns < START + 3000 * MS) {
            uplink_look(&uplink, queued(&network) + n_kept, true, network.now_ns);
            while (uplink_room(&uplink) > 0) {
                if (turn++ % 2 == 0)
                    network.n_packets++;
                else
                    n_kept = n_kept + PACKET < most ? n_kept + PACKET : most;
                uplink_handed(&uplink, PACKET, queued(&network) + n_kept);
            }
            sleep_for(&network, uplink_sleep_ns(&uplink) + 50000);
        }
        CHECK(network.n_carried > 3 * rate / 10); /* it was a four-hundredth */
    }
}

/* Its packets leave after all, and what was handed over meanwhile does not stay in front. */
static void an_uplink_that_pauses_gets_little_more_meanwhile(void) {
    struct uplink uplink = full_at(12500000, START);
    struct network network = {.rate = 12500000, .now_ns = START};
    run_for(&uplink, &network, 500, 50000);
    uint64_t end_ns = network.now_ns + 300 * MS;
    while (network.now_ns < end_ns) {
        uplink_look(&uplink, queued(&network), true, network.now_ns);
        while (uplink_room(&uplink) > 0) {
            network.n_packets++;
            uplink_handed(&uplink, PACKET, queued(&network));
        }
        network.now_ns += uplink_sleep_ns(&uplink) + 50000;
    }
    CHECK(queued(&network) < 12500000 / 40); /* 25 ms of it */
    run_for(&uplink, &network, 10000, 50000);
    CHECK(uplink.n_stuck < UPLINK_QUEUE_MIN);
}

int main(void) {
    RUN(it_is_full_when_packets_wait_for_longer_than_a_few_ms_all_the_time);
    RUN(it_is_not_when_they_leave_at_once_however_many_they_are);
    RUN(it_is_not_when_it_takes_each_burst_before_the_next);
    RUN(the_network_is_kept_busy_by_little_whatever_its_rate);
    RUN(what_comes_first_waits_for_a_packet_or_two);
    RUN(a_late_worker_costs_no_queue_where_a_shaper_makes_up_for_it);
    RUN(a_pause_now_and_then_makes_no_longer_queue);
    RUN(a_worker_that_is_late_gives_more_and_one_that_is_not_less);
    RUN(a_network_that_becomes_slower_or_faster_is_followed);
    RUN(what_does_not_leave_stops_the_rest_for_a_moment_only);
    RUN(a_peer_whose_packets_all_stay_does_not_stop_another);
    RUN(an_uplink_that_pauses_gets_little_more_meanwhile);
    return EXIT_SUCCESS;
}
