/* Replay marks against a naive model: sessions that come and go in a slot, messages in any order and
 * again, and link-readers that are killed wherever they are. No counter of a session is accepted
 * twice, whatever a successor is given; all above the marks is. */
#include "check.h"
#include "random.h"
#include "sealing.h"
#include "session/key_table.h"

enum { SLOT = 5, ROUNDS = 60, STEPS = 500, N_SESSIONS = 64, COUNTERS = 3000, TEXT = 16 };

/* The model: what the gateway knows of a session, and each counter that was accepted in it. */
struct session {
    uint32_t index;
    bool is_accepted[COUNTERS];
    uint64_t next;  /* one more than the greatest accepted */
    uint64_t least; /* all below was refused with a predecessor */
};

static struct replay_marks marks;
static struct key_table *table;
static struct session sessions[N_SESSIONS];
static unsigned n_sessions;
static struct random random_numbers = {31};

static size_t below(size_t bound) {
    return random_below(&random_numbers, bound);
}

static struct key_table *table_new(void) {
    struct key_table *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    made->marks = &marks;
    return made;
}

/* What a kill leaves: the marks as they are. */
static void abandon(struct key_table *abandoned) {
    for (unsigned at = 0; at < N_RECEIVING_KEYS && abandoned->by_slot[SLOT][at] != NULL; at++)
        abandoned->by_slot[SLOT][at]->mark = NULL;
    key_table_forget_slot(abandoned, SLOT);
    free(abandoned);
}

static struct receiving_key *with_cipher(struct receiving_key *key) {
    uint8_t bytes[AEAD_KEY_SIZE];
    sealing_key(bytes, 1);
    if (key != NULL && key->keys[AEAD_AES_256_GCM] == NULL) {
        key->keys[AEAD_AES_256_GCM] = aead_key_new(AEAD_AES_256_GCM, bytes);
        key->expires_ns = UINT64_MAX;
    }
    return key;
}

static void begin_session(void) {
    struct session *session = &sessions[n_sessions];
    *session = (struct session){.index = 1000 + n_sessions};
    n_sessions++;
    CHECK(with_cipher(key_table_add(table, SLOT, session->index)) != NULL);
}

/* The successor gets all that was ever opened with; only what had a mark is used again. */
static void replace(void) {
    bool was_there[N_SESSIONS];
    for (unsigned i = 0; i < n_sessions; i++)
        was_there[i] = key_table_find(table, sessions[i].index) != NULL;
    abandon(table);
    table = table_new();
    for (unsigned i = 0; i < n_sessions; i++) {
        struct receiving_key *key =
            with_cipher(key_table_take_over(table, SLOT, sessions[i].index));
        CHECK_EQUAL(key != NULL, was_there[i]);
        sessions[i].least = sessions[i].next;
        if (key != NULL)
            CHECK_EQUAL(key->is_confirmed, sessions[i].next > 0);
    }
}

static void receive(struct session *session, uint64_t counter) {
    static struct sealed_message sealed;
    uint8_t content[MESSAGE_MAX];
    const uint8_t text[TEXT] = {0x45};
    struct receiving_key *key = key_table_find(table, session->index);
    if (key == NULL)
        return;
    sealed_make(&sealed, AEAD_AES_256_GCM, 1, session->index, counter, text, TEXT);
    int opened = session_open(key, sealed.bytes + STREAM_LENGTH_PREFIX,
                              sealed.length - STREAM_LENGTH_PREFIX, content);
    bool is_new = !session->is_accepted[counter] && counter >= session->least;
    CHECK_EQUAL(opened, is_new ? TEXT : OPEN_REPLAYED);
    session->is_accepted[counter] = true;
    session->next = counter + 1 > session->next ? counter + 1 : session->next;
    struct replay_mark *mark = replay_marks_find(&marks, SLOT, session->index);
    CHECK(mark != NULL && mark == key->mark);
    CHECK_EQUAL(replay_mark_next(mark), session->next); /* before session_open has returned */
    key->is_confirmed = true;
}

static void step(void) {
    struct session *session = &sessions[n_sessions - 1 - below(n_sessions < 4 ? n_sessions : 4)];
    switch (below(40)) {
    case 0:
        replace();
        break;
    case 1:
        if (n_sessions < N_SESSIONS)
            begin_session();
        break;
    case 2:
        if (below(8) == 0)
            key_table_forget_slot(table, SLOT);
        break;
    default:;
        uint64_t from = session->next > 20 ? session->next - 20 : 0;
        uint64_t counter = from + below(30);
        receive(session, counter < COUNTERS ? counter : below(COUNTERS));
    }
}

static void whatever_happens_no_counter_is_accepted_twice(void) {
    for (int round = 0; round < ROUNDS; round++) {
        memset(&marks, 0, sizeof marks);
        table = table_new();
        n_sessions = 0;
        begin_session();
        for (int i = 0; i < STEPS; i++)
            step();
        abandon(table);
    }
}

/* -- killed in the middle ---------------------------------------------------------------------- */

/* Between the stores of replay_mark_begin a mark names no key: the old key is not used again, and the
 * new one, under which nothing can have come, begins anew. */
static void a_mark_that_was_being_given_to_another_key_is_neithers(void) {
    const struct replay_mark halves[] = {{0, 77}, {0, 0}};
    for (size_t i = 0; i < 2; i++) {
        memset(&marks, 0, sizeof marks);
        marks.of_slot[SLOT][0] = halves[i];
        table = table_new();
        CHECK(key_table_take_over(table, SLOT, 1) == NULL);
        struct receiving_key *key = key_table_add(table, SLOT, 2);
        CHECK_EQUAL(key->replay.next, 0);
        CHECK(key->mark == &marks.of_slot[SLOT][0]);
        abandon(table);
    }
}

static void a_key_that_a_link_reader_has_let_go_is_not_taken_over(void) {
    memset(&marks, 0, sizeof marks);
    table = table_new();
    for (uint32_t index = 1; index <= N_RECEIVING_KEYS + 1; index++)
        key_table_add(table, SLOT, index)->is_confirmed = true; /* the first makes way */
    abandon(table);
    table = table_new();
    CHECK(key_table_take_over(table, SLOT, 1) == NULL);
    for (uint32_t index = 2; index <= N_RECEIVING_KEYS + 1; index++)
        CHECK(key_table_take_over(table, SLOT, index) != NULL);
    CHECK(key_table_take_over(table, SLOT + 1, 2) == NULL); /* another peer's */
    key_table_forget_slot(table, SLOT);
    CHECK(key_table_take_over(table, SLOT, 2) == NULL);
    abandon(table);
}

/* Whatever is there: the window's arithmetic does not wrap. */
static void a_mark_beyond_all_counters_refuses_everything(void) {
    const uint64_t wrong[] = {REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&marks, 0, sizeof marks);
        marks.of_slot[SLOT][2] = (struct replay_mark){8, wrong[i]};
        table = table_new();
        struct receiving_key *key = key_table_take_over(table, SLOT, 7);
        CHECK(key != NULL);
        CHECK(!replay_accept(&key->replay, 0));
        CHECK(!replay_accept(&key->replay, REJECT_AFTER_MESSAGES - 1));
        CHECK(!replay_accept(&key->replay, UINT64_MAX));
        abandon(table);
    }
}

int main(void) {
    RUN(whatever_happens_no_counter_is_accepted_twice);
    RUN(a_mark_that_was_being_given_to_another_key_is_neithers);
    RUN(a_key_that_a_link_reader_has_let_go_is_not_taken_over);
    RUN(a_mark_beyond_all_counters_refuses_everything);
    return EXIT_SUCCESS;
}
