#include "outbound/overtaking.h"

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Of what was used, how much has not yet come back. What is more than `most` was used long ago, or never. */
static uint32_t in_use(const struct overtaking *overtaking, uint32_t used, uint32_t most) {
    uint32_t n = used - overtaking->n_bytes;
    return n <= most ? n : 0;
}

static bool sends_little(struct overtaking *overtaking, unsigned number, size_t length,
                         bool is_new) {
    uint32_t n = in_use(overtaking, overtaking->used[number], OVERTAKES_REMEMBERED);
    if (is_new)
        n = least(n + OVERTAKES_COST * (uint32_t)length, OVERTAKES_REMEMBERED);
    overtaking->used[number] = overtaking->n_bytes + n;
    return n <= OVERTAKES_BURST;
}

static bool take_share_of_all(struct overtaking *overtaking, size_t length) {
    uint32_t n = in_use(overtaking, overtaking->used_by_all, OVERTAKES_BURST_OF_ALL) +
                 OVERTAKES_COST_OF_ALL * (uint32_t)length;
    if (n > OVERTAKES_BURST_OF_ALL)
        return false;
    overtaking->used_by_all = overtaking->n_bytes + n;
    return true;
}

bool overtaking_next(struct overtaking *overtaking, struct overtaken *overtaken, uint32_t flow,
                     size_t length, bool is_new) {
    unsigned number = (flow - 1) % N_FLOWS;
    overtaken->any_flow |= flow == 0;
    if (overtaken->any_flow)
        return false;
    bool is_sparse = sends_little(overtaking, number, length, is_new) && length <= OVERTAKES_MAX;
    if (!overtaken->flows[number] && is_sparse && take_share_of_all(overtaking, length))
        return true;
    overtaken->flows[number] = true;
    return false;
}
