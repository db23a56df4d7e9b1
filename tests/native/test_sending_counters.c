/* Sending counters against a naive model: sessions that take turns at a slot's places, tun-readers
 * that are killed wherever they are, a gateway that draws in between, and a tun-reader that does not
 * know yet that its session has ended. Each counter of a session is used once at most; without a kill
 * or a message that was given up there is no gap. */
#include "check.h"
#include "random.h"
#include "session/session.h"

enum { SLOT = 3, ROUNDS = 300, STEPS = 400, N_SESSIONS = 40, USED_MAX = STEPS * 64 };

/* The model: a session is the set of the counters that were used in it. */
struct session {
    struct counter_source source;
    uint32_t index;
    bool is_used[USED_MAX];
    uint64_t n_used, greatest;
    bool may_have_gaps;
};

static struct sending_counters counters;
static struct session sessions[N_SESSIONS];
static int n_sessions;

static void use(struct session *session, uint64_t counter) {
    CHECK(counter < USED_MAX);
    CHECK(!session->is_used[counter]);
    session->is_used[counter] = true;
    session->n_used++;
    session->greatest = counter > session->greatest ? counter : session->greatest;
}

/* As the gateway does it: places in turns. */
static void begin_session(void) {
    uint32_t place = (uint32_t)n_sessions % SENDING_PLACES;
    sessions[n_sessions] = (struct session){
        .source = {place, sending_counters_drawn(&counters, SLOT, place)},
        .index = 1000 + (uint32_t)n_sessions,
        .may_have_gaps = n_sessions >= SENDING_PLACES,
    };
    if (n_sessions >= SENDING_PLACES) /* both draw there, if the tun-reader is still in the other */
        sessions[n_sessions - SENDING_PLACES].may_have_gaps = true;
    n_sessions++;
}

/* As a tun-reader does it with a session that it hears of, or starts with. */
static struct sending_key key_of(const struct session *session, const struct sending_key *before) {
    struct sending_key key = {
        .receiver_index = session->index,
        .counter = &counters.places[SLOT][session->source.place],
        .base = session->source.base,
        .expires_ns = UINT64_MAX,
    };
    session_go_on(&key, before);
    return key;
}

/* What session_seal_from does with it. */
static void seal(struct session *session, struct sending_key *key) {
    CHECK(session_draw(key, 1));
    use(session, key->next++);
}

static void seal_burst(struct random *random, struct session *session, struct sending_key *key) {
    unsigned n = 1 + (unsigned)random_below(random, 64);
    CHECK(session_draw(key, n));
    CHECK(key->end - key->next >= n);
    unsigned n_sealed = random_below(random, 8) > 0 ? n : (unsigned)random_below(random, n);
    uint64_t first = key->next;
    session->may_have_gaps |= n_sealed < n; /* the next burst, or a successor, skips the rest */
    for (unsigned i = 0; i < n_sealed; i++) {
        CHECK_EQUAL(key->next, first + i); /* a burst's follow one another */
        seal(session, key);
    }
}

static void step(struct random *random, int *reader, struct sending_key *key) {
    struct session *newest = &sessions[n_sessions - 1];
    struct sending_key before = *key;
    switch (random_below(random, 16)) {
    case 0: /* killed; the successor goes on */
        *key = key_of(&sessions[*reader], NULL);
        break;
    case 1: /* another cipher */
        *key = key_of(&sessions[*reader], &before);
        break;
    case 2: /* a handshake; the tun-reader hears of it */
        if (n_sessions < N_SESSIONS && random_below(random, 4) == 0)
            begin_session();
        break;
    case 3:
        if (*reader != n_sessions - 1)
            *key = key_of(newest, &before);
        *reader = n_sessions - 1;
        break;
    case 4:
    case 5: /* the gateway's message */
        use(newest,
            sending_counters_draw(&counters, SLOT, newest->source.place) - newest->source.base);
        break;
    case 6:
    case 7:
        seal_burst(random, &sessions[*reader], key);
        break;
    default:
        seal(&sessions[*reader], key);
    }
}

static void whatever_happens_no_counter_is_used_twice(void) {
    struct random random = {77};
    for (int round = 0; round < ROUNDS; round++) {
        n_sessions = 0;
        begin_session();
        int reader = 0;
        struct sending_key key = key_of(&sessions[0], NULL);
        for (int i = 0; i < STEPS; i++)
            step(&random, &reader, &key);
        for (int i = 0; i < n_sessions; i++)
            if (!sessions[i].may_have_gaps && sessions[i].n_used > 0)
                CHECK_EQUAL(sessions[i].n_used, sessions[i].greatest + 1);
    }
}

static void without_kills_the_counters_of_both_are_0_1_2_and_so_on(void) {
    struct random random = {5};
    n_sessions = 0;
    begin_session();
    struct sending_key key = key_of(&sessions[0], NULL);
    for (uint64_t expected = 0; expected < 1000;) {
        unsigned n = (unsigned)random_below(&random, 64);
        if (n == 0) {
            CHECK_EQUAL(sending_counters_draw(&counters, SLOT, 0) - key.base, expected++);
            continue;
        }
        CHECK(session_draw(&key, n));
        CHECK_EQUAL(sending_counter_drawn(key.counter) - key.base, expected + n); /* no more */
        for (unsigned i = 0; i < n; i++, expected++) {
            CHECK_EQUAL(session_next_counter(&key), expected);
            seal(&sessions[0], &key);
        }
    }
}

static void at_the_end_of_a_key_nothing_is_drawn_in_vain(void) {
    n_sessions = 0;
    begin_session();
    struct sending_key key = key_of(&sessions[0], NULL);
    key.base -= REJECT_AFTER_MESSAGES - 10;
    uint64_t drawn = sending_counter_drawn(key.counter);
    CHECK(!session_draw(&key, 11));
    CHECK_EQUAL(sending_counter_drawn(key.counter), drawn);
    CHECK(session_draw(&key, 10));
    CHECK_EQUAL(key.end, REJECT_AFTER_MESSAGES);
    key.next = key.end;
    CHECK(!session_may_seal(&key));
    for (int i = 0; i < 100; i++)
        CHECK(!session_draw(&key, 1));
    CHECK_EQUAL(sending_counter_drawn(key.counter), drawn + 10);
}

static void the_blocks_of_a_session_are_counted_on_by_a_successor_and_no_other_session(void) {
    n_sessions = 0;
    begin_session();
    struct sending_key key = key_of(&sessions[0], NULL);
    atomic_store(&key.counter->n_blocks, 77);
    struct sending_key successor = key_of(&sessions[0], NULL);
    CHECK_EQUAL(session_n_blocks(&successor), 77);
    sessions[0].index++;
    successor = key_of(&sessions[0], &key);
    CHECK_EQUAL(session_n_blocks(&successor), 0);
    atomic_store(&key.counter->n_blocks, 78);
    sessions[0].source.base++;
    successor = key_of(&sessions[0], &key);
    CHECK_EQUAL(session_n_blocks(&successor), 0);
}

int main(void) {
    RUN(whatever_happens_no_counter_is_used_twice);
    RUN(without_kills_the_counters_of_both_are_0_1_2_and_so_on);
    RUN(at_the_end_of_a_key_nothing_is_drawn_in_vain);
    RUN(the_blocks_of_a_session_are_counted_on_by_a_successor_and_no_other_session);
    return EXIT_SUCCESS;
}
