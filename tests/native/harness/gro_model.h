/* Flows of random packets, and a model that knows each packet by what it was made of: it says which
 * packets become one frame. */
#ifndef GRO_MODEL_H
#define GRO_MODEL_H

#include "check.h"
#include "random.h"
#include "splitter.h"

enum {
    N_ROUNDS = 400,
    N_PACKETS = 250,
    N_FLOWS = 6,
    PACKET_MAX = 34000,
    PSH = 0x08,
    ACK = 0x10,
};

/* -- packets ----------------------------------------------------------------------------------- */

enum ids { IDS_COUNT, IDS_EQUAL, IDS_RANDOM, N_IDS };

/* What the next packet of a flow looks like. */
struct flow {
    uint8_t version, protocol;
    uint8_t addresses[32], ports[4];
    uint8_t tos, ttl;
    bool df;
    enum ids ids;
    uint16_t id, window;
    uint32_t sequence, acknowledgement;
    uint8_t options[40];
    size_t n_options; /* bytes, a multiple of 4 */
    size_t mss;
    unsigned look; /* another one whenever a field changed that must be equal in all packets */
};

struct packet {
    uint8_t bytes[PACKET_MAX];
    size_t length;
    /* the model's view */
    const struct flow *flow;
    unsigned look;
    size_t payload;
    uint32_t sequence;
    uint16_t id;
    uint8_t flags;
    bool df;
    bool is_bad; /* a checksum is wrong */
    bool is_odd; /* something that is never merged */
};

static struct flow flows[N_FLOWS];
static struct packet packets[N_PACKETS];
static size_t calm; /* the larger, the longer a flow goes on undisturbed */

static bool one_in(struct random *random, size_t n) {
    return random_below(random, n) == 0;
}

static void make_flow(struct flow *flow, struct random *random) {
    random_fill(random, (uint8_t *)flow, sizeof *flow);
    flow->version = one_in(random, 2) ? 4 : 6;
    flow->protocol = one_in(random, 3) ? SPLIT_UDP : SPLIT_TCP;
    flow->df = one_in(random, 2);
    flow->ids = one_in(random, 4) ? (enum ids)random_below(random, N_IDS) : IDS_COUNT;
    flow->n_options = 4 * random_below(random, one_in(random, 2) ? 11 : 4);
    flow->mss = 8 + random_below(random, one_in(random, 4) ? 33000 : 1500);
    flow->look = 0;
}

/* One field that a split would not give back takes another value. */
static void change_look(struct flow *flow, struct random *random) {
    flow->look++;
    switch (random_below(random, flow->protocol == SPLIT_TCP ? 8 : 4)) {
    case 0:
        flow->ttl++;
        break;
    case 1:
        flow->tos ^= (uint8_t)(1 << random_below(random, 8));
        break;
    case 2:
        flow->addresses[random_below(random, flow->version == 4 ? 8 : 32)] ^= 0x10;
        break;
    case 3:
        flow->ports[random_below(random, 4)]++;
        break;
    case 4:
        flow->acknowledgement += 1u << random_below(random, 32);
        break;
    case 5:
        flow->window++;
        break;
    case 6:
        if (flow->n_options > 0)
            flow->options[random_below(random, flow->n_options)]++;
        else
            flow->n_options = 4;
        break;
    default:
        flow->n_options = flow->n_options == 0 ? 12 : flow->n_options - 4;
        break;
    }
}

static size_t place_ip(const struct flow *flow, const struct packet *packet, uint8_t *ip) {
    if (flow->version == 4) {
        memcpy(ip, (uint8_t[]){0x45, flow->tos}, 2);
        split_put_u16(ip + 4, packet->id);
        split_put_u16(ip + 6, packet->df ? 0x4000 : 0);
        memcpy(ip + 8, (uint8_t[]){flow->ttl, flow->protocol}, 2);
        memcpy(ip + 12, flow->addresses, 8);
        return 20;
    }
    memcpy(ip, (uint8_t[]){(uint8_t)(0x60 | flow->tos >> 4), (uint8_t)(flow->tos << 4), 1, 2}, 4);
    memcpy(ip + 6, (uint8_t[]){flow->protocol, flow->ttl}, 2);
    memcpy(ip + 8, flow->addresses, 32);
    return 40;
}

static size_t place_transport(const struct flow *flow, const struct packet *packet, uint8_t *at) {
    memcpy(at, flow->ports, 4);
    if (flow->protocol == SPLIT_UDP)
        return 8;
    split_put_u16(at + 4, packet->sequence >> 16);
    split_put_u16(at + 6, packet->sequence);
    split_put_u16(at + 8, flow->acknowledgement >> 16);
    split_put_u16(at + 10, flow->acknowledgement);
    at[12] = (uint8_t)((20 + flow->n_options) / 4 << 4);
    at[13] = packet->flags;
    split_put_u16(at + 14, flow->window);
    split_put_u16(at + 18, 0);
    memcpy(at + 20, flow->options, flow->n_options);
    return 20 + flow->n_options;
}

static void make_odd(struct packet *packet, struct random *random) {
    uint8_t *ip = packet->bytes;
    bool is_ipv4 = ip[0] >> 4 == 4, is_udp = packet->flow->protocol == SPLIT_UDP;
    packet->is_odd = true;
    switch (random_below(random, 5)) {
    case 0:
        packet->length -= random_below(random, packet->length); /* not what its header says */
        packet->is_odd = packet->length != split_header(ip) + packet->payload;
        return;
    case 1:
        if (!is_ipv4)
            ip[6] = (uint8_t[]){0, 43, 44, 51, 58, 60}[random_below(random, 6)];
        else
            split_put_u16(ip + 6, 1u << random_below(random, 16)); /* part of a fragment */
        packet->is_odd = !is_ipv4 || split_u16(ip + 6) != 0x4000;
        packet->df = is_ipv4 && split_u16(ip + 6) == 0x4000;
        break;
    case 2:
        ip[0] = (uint8_t)(is_ipv4 ? 0x46 + random_below(random, 10) : 0x70);
        return;
    case 3:
        if (is_udp)
            split_put_u16(ip + split_transport(ip) + 6, 0);
        else /* more or less header than there is */
            ip[split_transport(ip) + 12] = (uint8_t)(random_below(random, 5) << 4 | 1);
        break;
    default:
        if (is_udp)
            ip[split_transport(ip) + 5]++;
        else
            ip[split_transport(ip) + 12] |= 0x02; /* reserved */
        break;
    }
    if (is_ipv4) { /* still a right header checksum */
        split_put_u16(ip + 10, 0);
        split_put_u16(ip + 10, split_fold(split_sum(0, ip, 20)) ^ 0xffff);
    }
}

static void spoil_checksum(struct packet *packet, struct random *random) {
    size_t header = split_header(packet->bytes);
    packet->is_bad = true;
    if (packet->flow->version == 4 && one_in(random, 4))
        packet->bytes[10 + random_below(random, 2)] ^= (uint8_t)(1 << random_below(random, 8));
    else if (packet->payload == 0 || one_in(random, 4))
        split_checksum_place(packet->bytes)[random_below(random, 2)] ^=
            (uint8_t)(1 << random_below(random, 8));
    else
        packet->bytes[header + random_below(random, packet->payload)] ^=
            (uint8_t)(1 << random_below(random, 8));
    /* a UDP checksum that became 0 says that there is none */
    const uint8_t *checksum = split_checksum_place(packet->bytes);
    packet->is_odd = packet->flow->protocol == SPLIT_UDP && split_u16(checksum) == 0;
}

static size_t choose_payload(const struct flow *flow, struct random *random) {
    switch (random_below(random, 24 * calm)) {
    case 0:
        return random_below(random, flow->mss);
    case 1:
        return random_below(random, 12);
    case 2:
        return flow->mss + random_below(random, 20);
    default:
        return flow->mss;
    }
}

static uint16_t choose_id(struct flow *flow, struct random *random) {
    if (flow->ids == IDS_RANDOM || one_in(random, 100 * calm))
        flow->id = (uint16_t)random_next(random);
    return flow->ids == IDS_COUNT ? flow->id++ : flow->id;
}

static void make_packet(struct packet *packet, struct flow *flow, struct random *random) {
    if (one_in(random, 40 * calm))
        change_look(flow, random);
    if (one_in(random, 40 * calm))
        flow->sequence += 1u << random_below(random, 32);
    if (one_in(random, 60 * calm))
        flow->df = !flow->df;
    packet->flow = flow;
    packet->look = flow->look;
    packet->payload = choose_payload(flow, random);
    packet->sequence = flow->sequence;
    packet->id = choose_id(flow, random);
    packet->df = flow->df;
    packet->flags = one_in(random, 25 * calm) ? ACK | PSH : ACK;
    if (one_in(random, 60 * calm))
        packet->flags ^= (uint8_t)(1 << random_below(random, 8));
    packet->is_bad = packet->is_odd = false;
    size_t transport = place_ip(flow, packet, packet->bytes);
    size_t header = transport + place_transport(flow, packet, packet->bytes + transport);
    random_fill(random, packet->bytes + header, packet->payload);
    packet->length = header + packet->payload;
    split_complete(packet->bytes, packet->length);
    flow->sequence += (uint32_t)packet->payload;
    if (one_in(random, 50 * calm))
        make_odd(packet, random);
    else if (one_in(random, 50 * calm))
        spoil_checksum(packet, random);
}

/* -- the model --------------------------------------------------------------------------------- */

static bool is_tcp(const struct packet *packet) {
    return packet->flow->protocol == SPLIT_TCP;
}

static bool model_begins(const struct packet *packet) {
    if (packet->is_odd || packet->payload == 0)
        return false;
    return !is_tcp(packet) || (packet->flags == ACK && packet->payload >= 8);
}

/* Does the packet behind these `n` join them? */
static bool model_joins(const struct packet *group, size_t n) {
    const struct packet *next = group + n, *last = next - 1;
    size_t total = (size_t)(split_header(group->bytes));
    for (size_t i = 0; i <= n; i++)
        total += group[i].payload;
    if (next->is_odd || next->is_bad || group->is_bad || next->payload == 0 || n == 64 ||
        next->flow != group->flow || next->look != group->look || total > 65535 ||
        next->payload > group->payload || last->payload < group->payload)
        return false;
    if (is_tcp(next) && ((next->flags & ~PSH) != ACK || last->flags != ACK ||
                         next->sequence != (uint32_t)(last->sequence + last->payload)))
        return false;
    if (next->flow->version == 6)
        return true;
    uint16_t step = (uint16_t)(next->id - last->id),
             first_step = (uint16_t)(group[1].id - group->id);
    return next->df == group->df && step == first_step && (step == 1 || (step == 0 && next->df));
}

/* How many packets from here on become one frame. */
static size_t model_group(const struct packet *group, size_t n_left) {
    size_t n = 1;
    while (model_begins(group) && n < n_left && model_joins(group, n))
        n++;
    return n;
}

#endif
