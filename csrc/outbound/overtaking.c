#include "outbound/overtaking.h"

#include <string.h>

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

/* -- in the link's own queue ------------------------------------------------------------------- */

static unsigned number_of(uint32_t flow) {
    return flow == 0 ? N_FLOWS : (flow - 1) % N_FLOWS;
}

bool overtaking_arrives(struct overtaking *overtaking, uint32_t flow, size_t length) {
    unsigned number = number_of(flow);
    if (flow == 0 || overtaking->n_waiting[N_FLOWS] > 0)
        return false;
    bool is_sparse = sends_little(overtaking, number, length, true) && length <= OVERTAKES_MAX;
    return is_sparse && overtaking->n_waiting[number] == 0 && take_share_of_all(overtaking, length);
}

void overtaking_waits(struct overtaking *overtaking, uint32_t flow, bool waits) {
    uint32_t *n = &overtaking->n_waiting[number_of(flow)];
    if (waits)
        ++*n;
    else if (*n > 0)
        --*n;
}

void overtaking_none_waits(struct overtaking *overtaking) {
    memset(overtaking->n_waiting, 0, sizeof overtaking->n_waiting);
}
