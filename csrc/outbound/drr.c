#include "outbound/drr.h"

void drr_init(struct drr *drr, uint32_t quantum) {
    *drr = (struct drr){.first = {-1, -1}, .in_turn = {-1, -1}, .quantum = quantum};
}

static void append(struct drr *drr, struct drr_list *list, unsigned flow) {
    if (list->first < 0)
        list->first = (int)flow;
    else
        drr->flows[list->last].next = (uint16_t)flow;
    list->last = (int)flow;
}

static unsigned remove_first(struct drr *drr, struct drr_list *list) {
    unsigned flow = (unsigned)list->first;
    list->first = list->first == list->last ? -1 : drr->flows[flow].next;
    return flow;
}

static void set_more(struct drr *drr, unsigned flow, bool has_more) {
    drr->n_ready += (unsigned)has_more - (unsigned)drr->flows[flow].has_more;
    drr->flows[flow].has_more = has_more;
}

void drr_wake(struct drr *drr, unsigned number) {
    struct drr_flow *flow = &drr->flows[number];
    set_more(drr, number, true);
    if (flow->place != DRR_NOWHERE)
        return;
    flow->place = DRR_FIRST;
    flow->deficit = (int32_t)drr->quantum;
    append(drr, &drr->first, number);
}

static void to_the_end(struct drr *drr, struct drr_list *from) {
    unsigned number = remove_first(drr, from);
    drr->flows[number].place = DRR_IN_TURN;
    append(drr, &drr->in_turn, number);
}

static void remove_or_move(struct drr *drr, struct drr_list *list) {
    if (list == &drr->first && drr->in_turn.first >= 0)
        to_the_end(drr, list);
    else
        drr->flows[remove_first(drr, list)].place = DRR_NOWHERE;
}

int drr_next(struct drr *drr, uint32_t *n_bytes) {
    for (;;) {
        struct drr_list *list = drr->first.first >= 0 ? &drr->first : &drr->in_turn;
        if (list->first < 0)
            return -1;
        struct drr_flow *flow = &drr->flows[list->first];
        if (!flow->has_more) {
            remove_or_move(drr, list);
        } else if (flow->deficit <= 0) {
            flow->deficit += (int32_t)drr->quantum;
            to_the_end(drr, list);
        } else {
            *n_bytes = (uint32_t)flow->deficit;
            return list->first;
        }
    }
}

void drr_sent(struct drr *drr, unsigned number, uint32_t n_bytes, bool has_more) {
    drr->flows[number].deficit -= (int32_t)n_bytes;
    set_more(drr, number, has_more);
}

void drr_rest(struct drr *drr, unsigned number) {
    set_more(drr, number, false);
}
