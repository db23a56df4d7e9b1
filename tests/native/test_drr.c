/* drr: turns against a naive model, and what they promise. */
#include "outbound/drr.h"

#include <string.h>

#include "check.h"
#include "random.h"

static struct random random = {0x6472720a};

enum { QUANTUM = 1500, N_FLOWS = 12 };

/* -- a model that is slow and plain ------------------------------------------------------------ */

/* The order as an array: those that come first, then those in turn. */
struct model {
    unsigned order[N_FLOWS];
    unsigned n_first, n;
    int deficit[N_FLOWS];
    bool is_listed[N_FLOWS], has_more[N_FLOWS];
};

static void model_remove(struct model *model, unsigned at) {
    memmove(&model->order[at], &model->order[at + 1], (model->n - at - 1) * sizeof model->order[0]);
    model->n--;
    model->n_first -= at < model->n_first;
}

static void model_to_end(struct model *model) {
    unsigned flow = model->order[0];
    model_remove(model, 0);
    model->order[model->n++] = flow;
}

static void model_wake(struct model *model, unsigned flow) {
    model->has_more[flow] = true;
    if (model->is_listed[flow])
        return;
    model->is_listed[flow] = true;
    model->deficit[flow] = QUANTUM;
    memmove(&model->order[model->n_first + 1], &model->order[model->n_first],
            (model->n - model->n_first) * sizeof model->order[0]);
    model->order[model->n_first++] = flow;
    model->n++;
}

static int model_next(struct model *model) {
    while (model->n > 0) {
        unsigned flow = model->order[0];
        bool is_first = model->n_first > 0;
        if (model->has_more[flow] && model->deficit[flow] > 0)
            return (int)flow;
        if (model->has_more[flow]) {
            model->deficit[flow] += QUANTUM;
            model_to_end(model);
        } else if (is_first && model->n > model->n_first) {
            model_to_end(model);
        } else {
            model->is_listed[flow] = false;
            model_remove(model, 0);
        }
    }
    return -1;
}

static void any_sequence_is_as_the_model_says(void) {
    static struct drr drr;
    for (int round = 0; round < 300; round++) {
        struct model model = {0};
        drr_init(&drr, QUANTUM);
        for (int i = 0; i < 1000; i++) {
            unsigned flow = (unsigned)random_below(&random, N_FLOWS),
                     what = (unsigned)random_below(&random, 8);
            if (what < 2) {
                drr_wake(&drr, flow);
                model_wake(&model, flow);
            } else if (what == 2) {
                drr_rest(&drr, flow);
                model.has_more[flow] = false;
            } else {
                uint32_t n_bytes = 0, n_sent = (unsigned)random_below(&random, 3 * QUANTUM);
                int turn = drr_next(&drr, &n_bytes);
                CHECK_EQUAL(turn, model_next(&model));
                if (turn < 0)
                    continue;
                CHECK_EQUAL((int)n_bytes, model.deficit[turn]);
                bool has_more = (unsigned)random_below(&random, 3) > 0;
                drr_sent(&drr, (unsigned)turn, n_sent, has_more);
                model.deficit[turn] -= (int)n_sent;
                model.has_more[turn] = has_more;
            }
            unsigned n_ready = 0;
            for (unsigned j = 0; j < N_FLOWS; j++)
                n_ready += model.has_more[j];
            CHECK_EQUAL(drr.n_ready, n_ready);
        }
    }
}

/* -- what it is for ---------------------------------------------------------------------------- */

/* Whoever always has something gets as much as the others, whatever the lengths of its packets. */
static void flows_that_never_end_get_equal_parts(void) {
    static struct drr drr;
    uint64_t n_sent[N_FLOWS] = {0}, least = UINT64_MAX, most = 0;
    drr_init(&drr, QUANTUM);
    for (unsigned flow = 0; flow < N_FLOWS; flow++)
        drr_wake(&drr, flow);
    for (int i = 0; i < 100000; i++) {
        uint32_t n_bytes = 0;
        unsigned flow = (unsigned)drr_next(&drr, &n_bytes);
        uint32_t length = flow % 2 == 0 ? 60 + (unsigned)random_below(&random, 60) : 1500;
        drr_sent(&drr, flow, length, true);
        n_sent[flow] += length;
    }
    for (unsigned flow = 0; flow < N_FLOWS; flow++) {
        least = n_sent[flow] < least ? n_sent[flow] : least;
        most = n_sent[flow] > most ? n_sent[flow] : most;
    }
    CHECK(most - least <= 3 * QUANTUM);
}

static void one_that_has_something_now_and_then_comes_before_all_others(void) {
    static struct drr drr;
    enum { SPARSE = N_FLOWS };
    uint32_t n_bytes = 0;
    drr_init(&drr, QUANTUM);
    for (unsigned flow = 0; flow < N_FLOWS; flow++)
        drr_wake(&drr, flow);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 3 * N_FLOWS; i++) /* every list is behind it */
            drr_sent(&drr, (unsigned)drr_next(&drr, &n_bytes), QUANTUM, true);
        drr_wake(&drr, SPARSE);
        CHECK_EQUAL(drr_next(&drr, &n_bytes), SPARSE);
        drr_sent(&drr, SPARSE, 100, false);
        CHECK(drr_next(&drr, &n_bytes) != SPARSE);
    }
}

/* Else many that come and go would leave nothing to those that stay. */
static void one_that_is_back_at_once_waits_for_its_turn(void) {
    static struct drr drr;
    unsigned n_of_last = 0;
    drr_init(&drr, QUANTUM);
    drr_wake(&drr, N_FLOWS);
    for (int i = 0; i < 1000; i++) {
        uint32_t n_bytes = 0;
        for (unsigned flow = 0; flow < N_FLOWS; flow++)
            drr_wake(&drr, flow);
        unsigned flow = (unsigned)drr_next(&drr, &n_bytes);
        n_of_last += flow == N_FLOWS;
        drr_sent(&drr, flow, QUANTUM, flow == N_FLOWS);
    }
    CHECK(n_of_last >= 1000 / (N_FLOWS + 1) - 2);
}

int main(void) {
    RUN(any_sequence_is_as_the_model_says);
    RUN(flows_that_never_end_get_equal_parts);
    RUN(one_that_has_something_now_and_then_comes_before_all_others);
    RUN(one_that_is_back_at_once_waits_for_its_turn);
    return EXIT_SUCCESS;
}
