/* shaping: how much of what a peer sends passes and when, by a clock of its own, against a model that
 * counts in whole numbers; and that every frame passes whole and once, or is counted. */
#include "loop/shaping.h"

#include <stdlib.h>

#include "check.h"
#include "random.h"
#include "super_packet.h"

enum { SLOT = 7, OTHER_SLOT = 8, FRAME_MAX = 1500, START_MS = 1000 };

static const uint64_t ms = 1000000, second = 1000000000;
static struct shaping *shaping;
static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];

static void open_limited(uint64_t rate, uint64_t burst) {
    shaping = calloc(1, sizeof *shaping);
    shaping_init(shaping);
    CHECK_EQUAL(shaping_set(shaping, SLOT, rate, burst, false), 0);
}

static void close_all(void) {
    shaping_free(shaping);
    CHECK_EQUAL(shaping->pool.n_used, 0);
    free(shaping);
}

/* An IPv4 packet of no protocol that is looked into. */
static void make_frame(size_t length, uint32_t number) {
    memset(bytes, 0, VNET_LENGTH + length);
    uint8_t *packet = bytes + VNET_LENGTH;
    packet[0] = IPV4_VERSION_PLAIN;
    be16_write(packet + IPV4_TOTAL_LENGTH_OFFSET, (uint16_t)length);
    packet[IPV4_PROTOCOL_OFFSET] = 253; /* for experiments (RFC 3692) */
    memcpy(packet + IPV4_HEADER_SIZE, &number, sizeof number);
}

static struct shaped give(size_t length, uint32_t number, uint64_t now_ns) {
    make_frame(length, number);
    return shaping_take(shaping, SLOT, MODE_TUN, bytes, length, now_ns);
}

/* Removes what may pass; returns its bytes. `next` is the number of the frame that must come. */
static uint64_t release(uint64_t now_ns, uint32_t *next) {
    struct queue_entry entry;
    const uint8_t *held;
    uint64_t n_bytes = 0;
    while (shaping->n_holding > 0 && shaping_first(shaping, 0, now_ns, &entry, &held)) {
        uint32_t number;
        memcpy(&number, held + VNET_LENGTH + IPV4_HEADER_SIZE, sizeof number);
        CHECK(number >= *next);
        *next = number + 1;
        n_bytes += entry.length - VNET_LENGTH;
        shaping_pop(shaping, 0, now_ns);
    }
    return n_bytes;
}

/* -- the rate ---------------------------------------------------------------------------------- */

/* What may have passed from the start until `t_ns`: a burst, the rate, and the frame that was begun. */
static uint64_t most_passed(uint64_t rate, uint64_t burst, uint64_t t_ns) {
    unsigned __int128 in_time = (unsigned __int128)rate * t_ns / second;
    return (uint64_t)in_time + burst + FRAME_MAX;
}

/* A sender that always has more, and a worker that looks each `step_ms`. */
static void check_rate(uint64_t rate, uint64_t burst, uint64_t step_ms, uint64_t n_ms) {
    struct random random = {rate + step_ms};
    uint64_t passed = 0, now_ns = START_MS * ms, given = 0;
    uint32_t number = 0, next = 0;
    open_limited(rate, burst);
    for (uint64_t t_ms = 0; t_ms < n_ms; t_ms += step_ms, now_ns += step_ms * ms) {
        passed += release(now_ns, &next);
        CHECK(passed <= most_passed(rate, burst, t_ms * ms));
        while (given < passed + 2 * rate / 1000 * step_ms + 2 * FRAME_MAX) {
            size_t length = IPV4_HEADER_SIZE + 4 + random_below(&random, FRAME_MAX - 24);
            struct shaped shaped = give(length, number++, now_ns);
            CHECK_EQUAL(shaped.n_dropped, 0);
            given += length;
            if (shaped.passes) {
                next = number;
                passed += length;
            }
        }
    }
    /* It never waited for the sender, so all that the rate gives has passed but the last step's. */
    CHECK(passed + rate / 1000 * step_ms + FRAME_MAX >= rate / 1000 * n_ms);
    close_all();
}

static void the_rate_is_kept_from_above_and_from_below(void) {
    const uint64_t rates[] = {8000, 125000, 1250000, 12500000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        for (uint64_t step_ms = 1; step_ms <= 16; step_ms *= 4)
            check_rate(rates[i], rates[i] / 20, step_ms, 5000);
}

static void small_packets_at_a_high_rate_add_up_exactly(void) {
    struct rate_limit limit = {.rate = 12345678901};
    enum { N = 1000000, LENGTH = 40 };
    limit.paid_ns = second;
    for (int i = 0; i < N; i++)
        rate_limit_charge(&limit, LENGTH, second);
    unsigned __int128 exact = (unsigned __int128)N * LENGTH * second / limit.rate;
    CHECK_EQUAL(limit.paid_ns - second, exact);
}

static void a_pause_is_made_up_for_by_a_burst_and_no_more(void) {
    uint64_t now_ns = START_MS * ms;
    open_limited(1000000, 100000);
    for (int pause = 0; pause < 3; pause++, now_ns += 10 * second) {
        uint32_t next = 0;
        uint64_t passed = 0;
        for (uint32_t i = 0; i < 400; i++)
            passed += give(1000, i, now_ns).passes ? 1000 : 0;
        CHECK_EQUAL(passed, 101000); /* when the last one begins, nothing is owed */
        CHECK_EQUAL(release(now_ns + 5 * second, &next), 100000);
    }
    close_all();
}

static void a_super_packet_larger_than_the_burst_passes_and_what_follows_waits(void) {
    open_limited(12500000, 1000);
    CHECK(give(60000, 0, second).passes); /* 4.8 ms, and a burst is 20 ms at least */
    uint64_t passed = 60000;
    while (give(60000, 1, second).passes)
        passed += 60000;
    CHECK(passed <= 12500000 / 50 + 60000);
    CHECK_EQUAL(shaping->n_holding, 1);
    close_all();
}

/* -- the queue --------------------------------------------------------------------------------- */

static void what_waits_is_bounded_by_its_time_and_the_rest_is_counted(void) {
    open_limited(1000000, 0);
    uint64_t passed = 0, held = 0, dropped = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        struct shaped shaped = give(1000, i, second);
        passed += shaped.passes;
        held += !shaped.passes && shaped.n_dropped == 0;
        dropped += shaped.n_dropped;
        CHECK_EQUAL(shaped.dropped_bytes, shaped.n_dropped * 1000);
    }
    CHECK_EQUAL(passed + held + dropped, 1000);
    CHECK_EQUAL(held, 100);
    uint32_t next = 0;
    CHECK_EQUAL(release(2 * second, &next) > 0, true);
    close_all();
}

static void a_frame_that_waits_alone_may_be_of_any_length(void) {
    open_limited(RATE_MAX / 1000000, 0);
    CHECK(give(1500, 0, second).passes);
    while (give(1500, 0, second).passes)
        ;
    uint32_t next = 0;
    release(100 * second, &next);
    while (give(1500, 0, 100 * second).passes)
        ;
    CHECK_EQUAL(give(60000, 1, 100 * second).n_dropped, 1); /* behind another */
    close_all();
}

static void the_wait_is_until_the_first_may_pass(void) {
    open_limited(1000000, 0);
    CHECK_EQUAL(shaping_set(shaping, OTHER_SLOT, 1000, 0, false), 0);
    while (give(1000, 0, second).passes)
        ;
    make_frame(1000, 0);
    for (int i = 0; i < 2; i++)
        shaping_take(shaping, OTHER_SLOT, MODE_TUN, bytes, 1000, second);
    CHECK_EQUAL(shaping->n_holding, 2);
    int wait_ms = shaping_wait_ms(shaping, second);
    CHECK_EQUAL(wait_ms, 1);
    struct queue_entry entry;
    const uint8_t *held;
    CHECK(!shaping_first(shaping, 0, second, &entry, &held));
    CHECK(shaping_first(shaping, 0, second + (uint64_t)wait_ms * ms, &entry, &held));
    shaping_pop(shaping, 0, second + ms);
    CHECK_EQUAL(shaping->holding[0], OTHER_SLOT);
    CHECK(shaping_wait_ms(shaping, second) > 900);
    close_all();
}

/* -- super-packets ----------------------------------------------------------------------------- */

static void a_super_packet_that_would_take_long_waits_as_its_packets(void) {
    static struct super_packet packet;
    struct random random = {5};
    static uint8_t segment[SUPER_PACKET_MAX];
    const struct super_packet_shape shapes[] = {
        {.version = 4, .tcp_flags = SUPER_PACKET_ACK, .size = 1000, .payload = 11500},
        {.version = 6, .tcp_flags = SUPER_PACKET_ACK, .size = 1300, .payload = 9000},
        {.version = 4, .is_udp = true, .size = 1200, .payload = 9700},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        open_limited(125000, 0);
        super_packet_make(&packet, &random, &shapes[i]);
        vnet_write(&packet.vnet, bytes);
        memcpy(bytes + VNET_LENGTH, packet.bytes, packet.length);
        struct shaped shaped = shaping_take(shaping, SLOT, MODE_TUN, bytes, packet.length, second);
        CHECK(!shaped.passes);
        CHECK_EQUAL(shaped.n_dropped, 0);
        size_t n_segments = super_packet_n_segments(&packet), n_bytes = 0;
        for (size_t n = 0; n < n_segments; n++) {
            struct queue_entry entry;
            const uint8_t *held;
            CHECK(shaping_first(shaping, 0, second * (2 + n), &entry, &held));
            size_t length = super_packet_segment(&packet, n, segment);
            CHECK_EQUAL(entry.length, VNET_LENGTH + length);
            CHECK_EQUAL(entry.n_packets, 1);
            CHECK(is_zero(held, VNET_LENGTH));
            CHECK(memcmp(held + VNET_LENGTH, segment, length) == 0);
            shaping_pop(shaping, 0, second * (2 + n));
            n_bytes += length;
        }
        CHECK_EQUAL(shaping->n_holding, 0);
        CHECK(n_bytes > packet.length);
        close_all();
    }
}

static void a_super_packet_that_does_not_take_long_stays_whole(void) {
    static struct super_packet packet;
    struct random random = {6};
    const struct super_packet_shape shape = {
        .version = 4, .tcp_flags = SUPER_PACKET_ACK, .size = 1400, .payload = 56000};
    open_limited(125000000, 0);
    super_packet_make(&packet, &random, &shape);
    vnet_write(&packet.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, packet.bytes, packet.length);
    while (shaping_take(shaping, SLOT, MODE_TUN, bytes, packet.length, second).passes)
        ;
    struct queue_entry entry;
    const uint8_t *held;
    CHECK(shaping_first(shaping, 0, 2 * second, &entry, &held));
    CHECK_EQUAL(entry.length, VNET_LENGTH + packet.length);
    CHECK_EQUAL(entry.n_packets, 40);
    CHECK_EQUAL(entry.n_bytes, packet.length + 39 * packet.header);
    close_all();
}

/* -- changes ----------------------------------------------------------------------------------- */

static void a_peer_that_is_cut_off_passes_nothing(void) {
    open_limited(1000000, 0);
    CHECK_EQUAL(shaping_set(shaping, SLOT, 0, 0, true), 0);
    struct shaped shaped = give(1000, 0, second);
    CHECK(!shaped.passes && shaped.is_cut_off);
    CHECK_EQUAL(shaped.n_dropped, 1);
    CHECK_EQUAL(shaping_set(shaping, SLOT, 0, 0, false), 0);
    CHECK(shaping->shapers[SLOT] == NULL);
    close_all();
}

static void without_its_limit_what_waits_goes_on_in_order(void) {
    open_limited(1000, 0);
    uint32_t number = 0, next = 0;
    while (give(1000, number, second).passes)
        next = ++number;
    give(1000, ++number, second);
    CHECK_EQUAL(shaping_set(shaping, SLOT, 0, 0, false), 0);
    CHECK(!give(1000, ++number, second).passes); /* not in front of the others */
    CHECK_EQUAL(release(second, &next), 3000);
    CHECK_EQUAL(next, number + 1);
    CHECK(give(1000, ++number, second).passes);
    CHECK_EQUAL(shaping_set(shaping, SLOT, 0, 0, false), 0);
    CHECK(shaping->shapers[SLOT] == NULL);
    close_all();
}

static void the_same_limit_again_gives_nothing_more(void) {
    open_limited(1000000, 50000);
    while (give(1000, 0, second).passes)
        ;
    CHECK_EQUAL(shaping_set(shaping, SLOT, 1000000, 50000, false), 0);
    uint32_t next = 0;
    CHECK_EQUAL(release(second, &next), 0);
    close_all();
}

int main(void) {
    RUN(the_rate_is_kept_from_above_and_from_below);
    RUN(small_packets_at_a_high_rate_add_up_exactly);
    RUN(a_pause_is_made_up_for_by_a_burst_and_no_more);
    RUN(a_super_packet_larger_than_the_burst_passes_and_what_follows_waits);
    RUN(what_waits_is_bounded_by_its_time_and_the_rest_is_counted);
    RUN(a_frame_that_waits_alone_may_be_of_any_length);
    RUN(the_wait_is_until_the_first_may_pass);
    RUN(a_super_packet_that_would_take_long_waits_as_its_packets);
    RUN(a_super_packet_that_does_not_take_long_stays_whole);
    RUN(a_peer_that_is_cut_off_passes_nothing);
    RUN(without_its_limit_what_waits_goes_on_in_order);
    RUN(the_same_limit_again_gives_nothing_more);
    return EXIT_SUCCESS;
}
