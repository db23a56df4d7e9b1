#include "outbound/path_queue.h"

#include "shared/clock.h"

#define MS ((uint64_t)NS_PER_MS)

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t rate_of(const struct path_queue *path) {
    return most(path->rates[0], path->rates[1]);
}

static void begin(struct path_queue *path, const struct path_figures *figures, uint64_t now_ns) {
    path->begun_ns = now_ns;
    path->begun_at = figures->n_delivered;
    path->packet = figures->packet;
}

static uint64_t delivered_since(const struct path_queue *path, const struct path_figures *figures) {
    uint32_t n_packets = figures->n_delivered - path->begun_at; /* across its end, too */
    return (uint64_t)n_packets * path->packet;
}

/* Packets that are longer or shorter from now on, as where the path's MTU has changed, are not counted
 * with those before. */
static void measure(struct path_queue *path, const struct path_figures *figures, uint64_t now_ns) {
    if (figures->packet != path->packet)
        begin(path, figures, now_ns);
    uint64_t elapsed_ns = now_ns - path->begun_ns;
    if (elapsed_ns < PATH_RATE_MS * MS)
        return;
    if (now_ns - path->rates_ns >= PATH_RATES_MS * MS) {
        path->rates[1] = path->rates[0];
        path->rates[0] = 0;
        path->rates_ns = now_ns;
    }
    uint64_t rate = delivered_since(path, figures) * 1000000 / (elapsed_ns / 1000);
    path->rates[0] = most(path->rates[0], rate);
    begin(path, figures, now_ns);
}

static void set_limit(struct path_queue *path, const struct path_figures *figures) {
    uint64_t ns = figures->least_ns + PATH_QUEUE_MS * MS;
    path->limit = most(rate_of(path) / 1000 * (ns / 1000) / 1000, PATH_LIMIT_MIN);
}

/* -- without a limit --------------------------------------------------------------------------- */

static void look_for_a_queue(struct path_queue *path, uint64_t queue_ns, uint64_t now_ns) {
    if (queue_ns < PATH_QUEUED_MS * MS) {
        path->queued_ns = 0;
        return;
    }
    if (path->queued_ns == 0)
        path->queued_ns = now_ns;
    if (now_ns - path->queued_ns < PATH_QUEUED_FOR_MS * MS || now_ns < path->paused_until_ns ||
        rate_of(path) == 0)
        return;
    path->is_limited = true;
    path->first_rate = rate_of(path);
    path->short_ns = now_ns;
    path->empty_ns = 0;
}

/* -- with one ---------------------------------------------------------------------------------- */

static void give_up(struct path_queue *path, uint64_t now_ns) {
    bool is_again = path->pause_ns != 0 && now_ns < path->paused_until_ns + 2 * path->pause_ns;
    path->pause_ns =
        is_again ? least(2 * path->pause_ns, PATH_PAUSE_MAX_MS * MS) : PATH_PAUSE_MS * MS;
    path->paused_until_ns = now_ns + path->pause_ns;
    path->is_limited = false;
    path->queued_ns = 0;
}

static void look_whether_it_helps(struct path_queue *path, const struct path_figures *figures,
                                  uint64_t queue_ns, uint64_t now_ns) {
    bool is_faster = figures->n_under_way >= path->limit - path->limit / 4 ||
                     rate_of(path) / 2 >= path->first_rate;
    if (queue_ns <= PATH_QUEUED_MS * MS * 3 / 2)
        path->short_ns = now_ns;
    if (now_ns - path->short_ns > PATH_HELPS_IN_MS * MS + 4 * figures->round_trip_ns) {
        give_up(path, now_ns);
        return;
    }
    if (queue_ns > PATH_QUEUE_MS * MS / 4 || !is_faster)
        path->empty_ns = 0;
    else if (path->empty_ns == 0)
        path->empty_ns = now_ns;
    else if (now_ns - path->empty_ns > PATH_EMPTY_MS * MS + 4 * figures->round_trip_ns)
        path->is_limited = false;
}

void path_queue_look(struct path_queue *path, const struct path_figures *figures, uint64_t now_ns) {
    uint64_t queue_ns = figures->round_trip_ns - least(figures->least_ns, figures->round_trip_ns);
    if (now_ns - path->looked_ns > PATH_GAP_MS * MS) {
        begin(path, figures, now_ns);
        path->queued_ns = path->empty_ns = 0;
        path->short_ns = now_ns;
    }
    path->looked_ns = now_ns;
    measure(path, figures, now_ns);
    if (path->is_limited)
        look_whether_it_helps(path, figures, queue_ns, now_ns);
    else
        look_for_a_queue(path, queue_ns, now_ns);
    if (path->is_limited)
        set_limit(path, figures);
}

uint64_t path_queue_room(const struct path_queue *path, const struct path_figures *figures) {
    if (!path->is_limited)
        return UINT64_MAX;
    return path->limit - least(path->limit, figures->n_under_way);
}
