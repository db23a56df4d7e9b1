/* Tun-reader and gateway draw counters of a session at once, each through a mapping of its own: each
 * counter goes to one of them, and a burst's follow one another. */
#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "session/session.h"

enum { SLOT = 1000, PLACE = 2, N_BURSTS = 4000, BURST = 16, N_GATEWAY = 8000 };
enum { N_ALL = N_BURSTS * BURST + N_GATEWAY };

static int fd;
static atomic_uint used[N_ALL];

static void *be_tun_reader(void *unused) {
    (void)unused;
    struct sending_counters *counters = sending_counters_attach(fd);
    CHECK(counters != NULL);
    struct sending_key key = {.counter = &counters->places[SLOT][PLACE]};
    for (int i = 0; i < N_BURSTS; i++) {
        CHECK(session_draw(&key, BURST));
        CHECK_EQUAL(key.end - key.next, BURST);
        while (key.next < key.end)
            atomic_fetch_add(&used[key.next++], 1);
    }
    sending_counters_detach(counters);
    return NULL;
}

static void each_counter_is_drawn_once_and_none_is_left_out(void) {
    pthread_t reader;
    struct sending_counters *counters = sending_counters_create(&fd);
    CHECK(counters != NULL);
    CHECK_EQUAL(pthread_create(&reader, NULL, be_tun_reader, NULL), 0);
    uint64_t before = 0;
    for (int i = 0; i < N_GATEWAY; i++) {
        uint64_t counter = sending_counters_draw(counters, SLOT, PLACE);
        CHECK(i == 0 || counter > before);
        atomic_fetch_add(&used[counter], 1);
        before = counter;
    }
    CHECK_EQUAL(pthread_join(reader, NULL), 0);
    for (int i = 0; i < N_ALL; i++)
        CHECK_EQUAL(atomic_load(&used[i]), 1);
    CHECK_EQUAL(sending_counters_drawn(counters, SLOT, PLACE), N_ALL);
    sending_counters_detach(counters);
    close(fd);
}

int main(void) {
    RUN(each_counter_is_drawn_once_and_none_is_left_out);
    return EXIT_SUCCESS;
}
