#define _GNU_SOURCE
#include "outbound/fair_writer.h"

#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "outbound/captured_out.h"
#include "outbound/datagram_socket.h"
#include "outbound/datagram_train.h"
#include "outbound/datagram_writer.h"
#include "outbound/queued.h"
#include "outbound/stream_writer.h"
#include "shared/clock.h"

enum {
    /* After so long without a full uplink all goes at once again. */
    FREE_AFTER_MS = 1000,
    /* A turn is a packet on a slow uplink, a train on a fast one. */
    QUANTUM_MIN = 1514,
    QUANTUM_MAX = TRAIN_BYTES_MAX,
    TURNS_OF_LIMIT = 4,
    /* UDP, IP and Ethernet, which the uplink carries as well. */
    WIRE_HEADERS = 8 + 20 + 14,
    /* TCP_NOTSENT_LOWAT: what a stream's socket takes beyond what TCP may send. As fastun/link/stream
     * sets it; and while peers take turns: what it has it sends when acknowledged, not in its turn. */
    UNSENT_MAX = 128 * 1024,
    UNSENT_MAX_IN_TURN = 4 * 1024,
};

/* -- what the kernel has ----------------------------------------------------------------------- */

uint64_t fair_unsent_of(int fd) {
    uint32_t figures[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof figures;
    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, figures, &length);
    return figures[SK_MEMINFO_WMEM_ALLOC];
}

static void look_at(struct fair *fair, uint64_t *known, int fd) {
    uint64_t n_unsent = fair_unsent_of(fd);
    fair->n_unsent += n_unsent - *known;
    *known = n_unsent;
}

/* Of the streams those that may have something there: `all` of them, or those that had. */
static void look_at_all(struct link_writer *writer, bool all) {
    struct fair *fair = &writer->fair;
    for (unsigned i = 0; i < N_SOCKETS; i++)
        if (writer->sockets[i].fd >= 0 || fair->n_unsent_of[i] > 0) /* it may be closed */
            look_at(fair, &fair->n_unsent_of[i], writer->sockets[i].fd);
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        struct writer_link *link = writer->links[slot];
        if (link != NULL && link->fd >= 0 && (link->n_unsent > 0 || (all && link->is_full)))
            look_at(fair, &link->n_unsent, link->fd);
    }
}

/* -- on and off -------------------------------------------------------------------------------- */

static void limit_unsent(const struct writer_link *link, int n_max) {
    if (link->fd >= 0) /* other sockets than TCP refuse it, and have nothing of the kind */
        setsockopt(link->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &n_max, sizeof n_max);
}

/* What TCP sends as one packet: less would go out as one of its own. */
static void read_segment(struct writer_link *link) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    if (link->fd >= 0 && getsockopt(link->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
        link->segment = info.tcpi_snd_mss;
}

static void set_on(struct link_writer *writer, bool is_on, uint64_t now_ns) {
    writer->fair.is_on = is_on;
    writer->fair.full_ns = now_ns;
    for (unsigned slot = 0; slot < N_PEER_SLOTS; slot++) {
        struct writer_link *link = writer->links[slot];
        if (link == NULL)
            continue;
        limit_unsent(link, is_on ? UNSENT_MAX_IN_TURN : UNSENT_MAX);
        read_segment(link);
        if (is_on && link->is_held)
            stream_forget(writer, link); /* its path is not looked at meanwhile */
        if (is_on)
            fair_wake(writer, link);
    }
}

void fair_init(struct fair *fair) {
    drr_init(&fair->drr, QUANTUM_MIN);
}

void fair_watch(struct link_writer *writer) {
    struct fair *fair = &writer->fair;
    if (writer->n_links < 2)
        return;
    uint64_t now_ns = clock_now_ns();
    if (!uplink_is_look_due(&fair->uplink, now_ns))
        return;
    uint64_t n_bytes =
        atomic_load_explicit(&writer->loop.stats->counters[COUNTER_bytes], memory_order_relaxed);
    look_at_all(writer, true);
    if (uplink_is_full(&fair->uplink, fair->n_unsent, n_bytes - fair->n_bytes, now_ns))
        set_on(writer, true, now_ns);
    fair->n_bytes = n_bytes;
}

void fair_attach(struct link_writer *writer, struct writer_link *link) {
    read_segment(link);
    limit_unsent(link, writer->fair.is_on ? UNSENT_MAX_IN_TURN : UNSENT_MAX);
}

void fair_forget(struct link_writer *writer, struct writer_link *link) {
    drr_rest(&writer->fair.drr, link->slot);
    writer->fair.n_unsent -= link->n_unsent;
    link->n_unsent = 0;
}

static bool can_send(const struct writer_link *link) {
    return !link_queue_is_empty(&link->queue) && !link->is_full && link->broken == 0 &&
           !link->has_ended;
}

void fair_wake(struct link_writer *writer, struct writer_link *link) {
    if (can_send(link))
        drr_wake(&writer->fair.drr, link->slot);
}

/* -- from the ring into the queues ------------------------------------------------------------- */

/* The first `n` of `n_parts` of `all`. */
static uint32_t part(uint32_t all, uint32_t n, uint32_t n_parts) {
    return n_parts == 0 ? 0 : (uint32_t)((uint64_t)all * n / n_parts);
}

/* One entry for each datagram, so that a turn can end behind any. */
static void add_datagrams(struct link_writer *writer, struct writer_link *link,
                          const struct ring_view *record) {
    bool is_one = record->segment == SEGMENT_WHOLE || record->segment >= record->length;
    if (is_one) {
        queued_add(writer, link, record, 0);
        return;
    }
    uint32_t n_datagrams = (record->length + record->segment - 1) / record->segment;
    struct ring_view one = *record;
    one.segment = SEGMENT_WHOLE;
    for (uint32_t i = 0; i < n_datagrams; i++) {
        uint32_t offset = i * record->segment, rest = record->length - offset;
        uint32_t n_before = part(record->n_packets, i, n_datagrams);
        uint32_t n_with_it = part(record->n_packets, i + 1, n_datagrams);
        one.payload = record->payload + offset;
        one.length = rest < record->segment ? rest : record->segment;
        one.n_packets = n_with_it - n_before; /* of half a frame none */
        one.n_bytes = part(record->n_bytes, n_with_it, record->n_packets) -
                      part(record->n_bytes, n_before, record->n_packets);
        queued_add(writer, link, &one, 0);
    }
}

static void add(struct link_writer *writer, struct writer_link *link,
                const struct ring_view *record) {
    if (link == NULL) {
        captured_drop(writer, record, DROP_link_writer_no_link);
        return;
    }
    if (link->is_blocked) {
        captured_drop(writer, record, DROP_link_writer_inside_tunnel);
        return;
    }
    if (link->format.is_datagram)
        add_datagrams(writer, link, record);
    else
        queued_add(writer, link, record, 0);
    queued_mark(writer, link, NULL);
    fair_wake(writer, link);
}

/* The only link's frames wait in the ring. */
static bool may_gather(const struct link_writer *writer) {
    return writer->n_links > 1 || writer->fair.drr.n_ready + writer->n_full == 0;
}

/* true: there may be more. */
static bool empty_ring(struct link_writer *writer) {
    struct batch batch;
    if (!may_gather(writer) || !link_writer_gather(writer, &batch))
        return false;
    for (int i = 0; i < batch.n; i++)
        if (!batch.is_done[i])
            add(writer, batch.links[i], batch.records[i]);
    ring_release(writer->loop.ring, batch.ends[batch.n - 1], writer->loop.stats);
    return true;
}

/* -- turns ------------------------------------------------------------------------------------- */

struct sent {
    uint32_t n_bytes;  /* that the uplink carries */
    uint64_t n_unsent; /* what the kernel counts for them until they have left */
};

/* A buffer of a power of two bytes, which the kernel has some of as well, and its description. */
static uint64_t buffer_of(uint32_t length) {
    uint64_t size = 512;
    while (size < length + 320)
        size *= 2;
    return size + 256;
}

/* Sends datagrams of `n_max` bytes, of which the last may exceed it. */
static struct sent send_datagrams(struct link_writer *writer, struct writer_link *link,
                                  uint32_t n_max) {
    struct ring_view views[TRAIN_SEGMENTS_MAX];
    struct trains trains = {.n = 0};
    struct queue_entry entry;
    size_t place = link->queue.start;
    uint32_t n_bytes = 0;
    datagram_refresh_endpoint(writer, link);
    for (int i = 0; i < TRAIN_SEGMENTS_MAX && n_bytes < n_max; i++) {
        const uint8_t *bytes = link_queue_peek(&link->queue, &place, &entry);
        if (bytes == NULL)
            break;
        views[i] = (struct ring_view){
            .payload = (uint8_t *)(uintptr_t)bytes,
            .length = entry.length,
            .n_packets = entry.n_packets,
            .n_bytes = entry.n_bytes,
            .slot = link->slot,
            .link_id = link->id,
            .segment = entry.segment,
            .ecn = entry.ecn,
            .enqueued_ns = entry.enqueued_ns,
        };
        trains_append(&trains, link, &views[i]);
        n_bytes += entry.length + WIRE_HEADERS;
    }
    int n_done = datagrams_send(writer, &trains);
    int n_out = n_done < trains.n ? trains.trains[n_done].first : trains.n_records;
    struct sent sent = {0, 0};
    for (int i = 0; i < n_out && link_queue_pop(&link->queue, &entry); i++) {
        sent.n_bytes += entry.length + WIRE_HEADERS;
        sent.n_unsent += buffer_of(entry.length + WIRE_HEADERS);
    }
    return sent;
}

/* TCP makes its own packets of it: as of full ones. */
static struct sent send_on_stream(struct link_writer *writer, struct writer_link *link,
                                  uint32_t n_max) {
    if (link->segment > 0) /* the next turn is so much shorter */
        n_max = (n_max + link->segment - 1) / link->segment * link->segment;
    uint32_t n_bytes = (uint32_t)stream_write_queued(writer, link, n_max);
    return (struct sent){n_bytes, n_bytes * 3ull / 2};
}

/* Drops and counts what waits for a link whose route leads into the tunnel since. */
static void drop_blocked(struct link_writer *writer, struct writer_link *link) {
    struct queue_entry entry;
    while (link_queue_pop(&link->queue, &entry))
        link_writer_dropped(writer, link->slot, DROP_link_writer_inside_tunnel, entry.n_packets);
}

static void take_turn(struct link_writer *writer, struct writer_link *link, uint32_t n_max) {
    struct fair *fair = &writer->fair;
    struct sent sent = {0, 0};
    if (link->is_blocked)
        drop_blocked(writer, link);
    else if (can_send(link))
        sent = link->format.is_datagram ? send_datagrams(writer, link, n_max)
                                        : send_on_stream(writer, link, n_max);
    if (link->format.is_datagram)
        look_at(fair, &fair->n_unsent_of[link->endpoint.socket_index % N_SOCKETS],
                datagram_socket(writer, link)->fd);
    else
        look_at(fair, &link->n_unsent, link->fd);
    uplink_handed(&fair->uplink, sent.n_unsent, fair->n_unsent);
    queued_mark(writer, link, NULL);
    link_queue_rest(&link->queue, fair->uplink.looked_ns);
    drr_sent(&fair->drr, link->slot, sent.n_bytes, can_send(link));
}

static void set_quantum(struct fair *fair) {
    uint64_t quantum = uplink_limit(&fair->uplink) / TURNS_OF_LIMIT;
    fair->drr.quantum = quantum < QUANTUM_MIN   ? QUANTUM_MIN
                        : quantum > QUANTUM_MAX ? QUANTUM_MAX
                                                : (uint32_t)quantum;
}

/* For the peer whose turn it is. */
static uint64_t room_for(const struct fair *fair, unsigned slot) {
    bool is_first = drr_is_first(&fair->drr, slot);
    return is_first ? uplink_room_for_first(&fair->uplink) : uplink_room(&fair->uplink);
}

/* As long as the kernel has room. */
static void take_turns(struct link_writer *writer) {
    struct fair *fair = &writer->fair;
    uint64_t room;
    uint32_t n_bytes;
    int slot;
    set_quantum(fair);
    while (!waiter_is_rung(writer->loop.self) && (slot = drr_next(&fair->drr, &n_bytes)) >= 0 &&
           (room = room_for(fair, (unsigned)slot)) > 0)
        take_turn(writer, writer->links[slot], n_bytes < room ? n_bytes : (uint32_t)room);
    if (uplink_room(&fair->uplink) == 0)
        fair->full_ns = fair->uplink.looked_ns;
}

/* -- a step ------------------------------------------------------------------------------------ */

/* And for a record, which may be of a peer that goes first. */
static enum step wait_for_turn(struct link_writer *writer) {
    struct fair *fair = &writer->fair;
    struct loop *loop = &writer->loop;
    bool has_more = fair->drr.n_ready > 0;
    if (!has_more && fair->uplink.looked_ns - fair->full_ns > FREE_AFTER_MS * (uint64_t)NS_PER_MS) {
        set_on(writer, false, 0);
        return STEP_MORE;
    }
    uint64_t most_ns =
        has_more ? uplink_sleep_ns(&fair->uplink) : FREE_AFTER_MS * (uint64_t)NS_PER_MS;
    if (!may_gather(writer))
        return link_writer_poll(writer, most_ns);
    if (!ring_prepare_poll(loop->ring, ring_first(loop->ring)))
        return STEP_MORE;
    enum step step = link_writer_poll(writer, most_ns);
    waiter_cancel(loop->self);
    return step;
}

enum step fair_step(struct link_writer *writer) {
    struct fair *fair = &writer->fair;
    look_at_all(writer, false);
    uplink_look(&fair->uplink, fair->n_unsent, fair->drr.n_ready > 0, clock_now_ns());
    bool may_have_more = empty_ring(writer);
    take_turns(writer);
    return may_have_more ? STEP_MORE : wait_for_turn(writer);
}
