/* Putting packets together, against a model that knows each packet by what it was made of, and
 * against a splitter that cuts the result up again.
 */
#include "check.h"
#include "packet/gro.h"
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

/* -- the code ---------------------------------------------------------------------------------- */

static struct gro_group group;

static size_t real_group(const struct packet *first, size_t n_left) {
    size_t n = 1;
    if (!gro_begin(&group, first->bytes, first->length))
        return 1;
    while (n < n_left && gro_extend(&group, first[n].bytes, first[n].length))
        n++;
    CHECK_EQUAL(group.n_packets, n);
    return n;
}

static size_t gather(uint8_t *frame, int n_parts) {
    size_t length = 0;
    for (int i = 0; i < n_parts; i++) {
        memcpy(frame + length, group.iov[i].iov_base, group.iov[i].iov_len);
        length += group.iov[i].iov_len;
    }
    return length;
}

/* The split gives back every byte; equal ids, which DF allows, are the one thing it would count. */
static void check_split(const uint8_t *frame, size_t length, const struct packet *first, size_t n) {
    static uint8_t packet[PACKET_MAX];
    unsigned id_step = first->flow->version == 4 && first[0].id == first[1].id ? 0 : 1;
    const char *fault = split_fault(frame, length);
    if (fault != NULL)
        printf("        %s\n", fault);
    CHECK(fault == NULL);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQUAL(split_packet(frame, length, i, id_step, packet), first[i].length);
        CHECK_EQUAL(memcmp(packet, first[i].bytes, first[i].length), 0);
    }
    CHECK_EQUAL(split_packet(frame, length, n, id_step, packet), 0);
}

static void check_frame(const struct packet *first, size_t n) {
    static uint8_t frame[VNET_LENGTH + 65536];
    size_t length = gather(frame, gro_finish(&group));
    struct vnet vnet = vnet_read(frame);
    CHECK_EQUAL(vnet_check(&vnet, frame + VNET_LENGTH, length - VNET_LENGTH, 0), n);
    CHECK_EQUAL(vnet.hdr_len, frame[2]);
    CHECK_EQUAL(group.is_udp, !is_tcp(first));
    check_split(frame, length, first, n);
}

struct tally {
    size_t n_merged, n_full, n_pushed, n_smaller, n_equal_ids, n_longest;
};

static void count(struct tally *tally, const struct packet *first, size_t n) {
    const struct packet *last = first + n - 1;
    tally->n_merged += n;
    tally->n_full += n == GRO_PACKETS_MAX;
    tally->n_pushed += is_tcp(first) && last->flags != ACK;
    tally->n_smaller += last->payload < first->payload;
    tally->n_equal_ids += first->flow->version == 4 && first[0].id == first[1].id;
    tally->n_longest += first->payload * (n + 1) > 65000;
}

static void check_packets(size_t n_packets, struct tally *tally) {
    for (size_t i = 0, n; i < n_packets; i += n) {
        n = model_group(packets + i, n_packets - i);
        CHECK_EQUAL(real_group(packets + i, n_packets - i), n);
        if (n > 1) {
            check_frame(packets + i, n);
            count(tally, packets + i, n);
        }
    }
}

/* -- claims ------------------------------------------------------------------------------------ */

static void what_is_put_together_is_what_the_model_says_and_splits_into_the_same_bytes(void) {
    struct random random = {77};
    struct tally tally = {0};
    for (int round = 0; round < N_ROUNDS; round++) {
        size_t flow = 0;
        calm = one_in(&random, 3) ? 20 : 1;
        for (size_t i = 0; i < N_FLOWS; i++)
            make_flow(&flows[i], &random);
        for (size_t i = 0; i < N_PACKETS; i++) {
            if (one_in(&random, 30 * calm))
                flow = random_below(&random, N_FLOWS);
            make_packet(&packets[i], &flows[flow], &random);
        }
        check_packets(N_PACKETS, &tally);
    }
    CHECK(tally.n_merged > N_ROUNDS * N_PACKETS / 3 && tally.n_merged < N_ROUNDS * N_PACKETS);
    CHECK(tally.n_full > 10 && tally.n_pushed > 100 && tally.n_smaller > 100);
    CHECK(tally.n_equal_ids > 100 && tally.n_longest > 100);
}

static void make_clean(size_t n, uint8_t version, uint8_t protocol, size_t payload) {
    struct random random = {5};
    memset(&flows[0], 0, sizeof flows[0]);
    flows[0] = (struct flow){.version = version,
                             .protocol = protocol,
                             .ttl = 64,
                             .id = 65530,
                             .sequence = 0xfffff000,
                             .mss = payload,
                             .n_options = 12};
    for (size_t i = 0; i < n; i++) {
        struct packet *packet = &packets[i];
        *packet = (struct packet){.flow = &flows[0],
                                  .payload = payload,
                                  .flags = ACK,
                                  .sequence = flows[0].sequence + (uint32_t)(i * payload),
                                  .id = (uint16_t)(flows[0].id + i)};
        size_t transport = place_ip(&flows[0], packet, packet->bytes);
        size_t header = transport + place_transport(&flows[0], packet, packet->bytes + transport);
        random_fill(&random, packet->bytes + header, payload);
        packet->length = header + payload;
        split_complete(packet->bytes, packet->length);
    }
}

static void as_many_packets_as_64_kib_hold_become_one(void) {
    struct tally tally = {0};
    for (uint8_t version = 4; version <= 6; version += 2) {
        make_clean(48, version, SPLIT_TCP, 1368);
        CHECK_EQUAL(real_group(packets, 48), 47);
        check_packets(48, &tally);
        make_clean(70, version, SPLIT_UDP, 1000);
        CHECK_EQUAL(real_group(packets, 70), 64);
        check_packets(70, &tally);
    }
}

static void a_super_packet_may_have_65535_bytes_and_no_more(void) {
    enum { HEADERS = 20 + 20 + 12, N = 47, PAYLOAD = 1368, REST = 65535 - HEADERS - N * PAYLOAD };
    for (size_t more = 0; more < 2; more++) {
        make_clean(N + 1, 4, SPLIT_TCP, PAYLOAD);
        packets[N].length = HEADERS + REST + more;
        split_complete(packets[N].bytes, packets[N].length);
        CHECK_EQUAL(real_group(packets, N + 1), N + 1 - more);
    }
}

static void a_tcp_segment_has_8_bytes_at_least(void) {
    make_clean(2, 4, SPLIT_TCP, 8);
    CHECK_EQUAL(real_group(packets, 2), 2);
    make_clean(2, 4, SPLIT_TCP, 7);
    CHECK_EQUAL(real_group(packets, 2), 1);
    make_clean(2, 4, SPLIT_UDP, 1);
    CHECK_EQUAL(real_group(packets, 2), 2);
}

/* Headers and payload alike. */
static void a_packet_with_one_wrong_bit_anywhere_is_never_merged(void) {
    struct tally tally = {0};
    for (int kind = 0; kind < 4; kind++) {
        make_clean(3, kind % 2 == 0 ? 4 : 6, kind < 2 ? SPLIT_TCP : SPLIT_UDP, 40);
        for (size_t bit = 0; bit < packets[1].length * 8; bit++) {
            packets[1].bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            CHECK_EQUAL(real_group(packets, 3), 1);
            CHECK_EQUAL(real_group(packets + 1, 2), 1);
            packets[1].bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        }
        CHECK_EQUAL(real_group(packets, 3), 3);
        check_packets(3, &tally);
    }
}

/* Both packets are alike and their checksums right. */
static void check_alone(const char *what) {
    if (real_group(packets, 2) != 1)
        printf("        merged: %s\n", what);
    CHECK_EQUAL(real_group(packets, 2), 1);
}

static void what_no_split_gives_back_is_not_merged_though_every_packet_has_it(void) {
    enum { PAYLOAD = 40, OPTIONS = 12 };
    make_clean(2, 4, SPLIT_TCP, PAYLOAD);
    for (size_t i = 0; i < 2; i++) {
        packets[i].bytes[6] |= 0x20;
        split_complete(packets[i].bytes, packets[i].length);
    }
    check_alone("fragments");
    make_clean(2, 4, SPLIT_TCP, PAYLOAD);
    for (size_t i = 0; i < 2; i++) {
        packets[i].bytes[20 + 12] |= 1;
        split_complete(packets[i].bytes, packets[i].length);
    }
    check_alone("reserved bits");
    make_clean(2, 4, SPLIT_TCP, PAYLOAD);
    packets[1].bytes[20 + 7] += OPTIONS + 4; /* the sequence number, which ends with 40 */
    for (size_t i = 0; i < 2; i++) {
        packets[i].bytes[20 + 12] = 16 / 4 << 4;
        split_complete(packets[i].bytes, packets[i].length);
    }
    check_alone("a TCP header of 16 bytes");
    make_clean(2, 6, SPLIT_TCP, PAYLOAD);
    for (size_t i = 0; i < 2; i++)
        packets[i].bytes[6] = 47;
    check_alone("another protocol");
    make_clean(2, 4, SPLIT_UDP, PAYLOAD);
    for (size_t i = 0; i < 2; i++) {
        uint8_t *udp = packets[i].bytes + 20;
        split_put_u16(udp + 8, 0);
        split_complete(packets[i].bytes, packets[i].length);
        split_put_u16(udp + 4, 8 + PAYLOAD - 1);
        split_put_u16(udp + 8, 1); /* the same sum */
    }
    check_alone("a datagram shorter than its packet");
}

static void identifications_go_on_as_the_second_packet_shows(void) {
    const uint16_t ids[][3] = {{0, 0, 2}, {0, 1, 1}, {0, 1, 0}};
    const size_t n_merged[] = {2, 2, 2};
    for (size_t i = 0; i < 3; i++) {
        make_clean(3, 4, SPLIT_TCP, 40);
        for (size_t j = 0; j < 3; j++) {
            split_put_u16(packets[j].bytes + 4, ids[i][j]);
            packets[j].bytes[6] = 0x40;
            split_complete(packets[j].bytes, packets[j].length);
        }
        CHECK_EQUAL(real_group(packets, 3), n_merged[i]);
    }
}

/* Not even where its sum happens to be right: a split would write a checksum of 0xffff. */
static void a_datagram_without_a_checksum_is_never_merged(void) {
    for (uint8_t version = 4; version <= 6; version += 2) {
        make_clean(2, version, SPLIT_UDP, 40);
        for (size_t i = 0; i < 2; i++) {
            uint8_t *last_word = packets[i].bytes + packets[i].length - 2;
            uint8_t *checksum = split_checksum_place(packets[i].bytes);
            uint64_t sum = (uint64_t)split_u16(last_word) + split_u16(checksum);
            split_put_u16(last_word, split_fold(sum));
            split_put_u16(checksum, 0);
            CHECK(split_has_right_checksums(packets[i].bytes, packets[i].length));
        }
        CHECK_EQUAL(real_group(packets, 2), 1);
    }
}

/* Cut anywhere, at an exact end of the memory: AddressSanitizer sees what is read behind it. */
static void a_packet_cut_short_is_refused_without_reading_past_its_end(void) {
    for (int kind = 0; kind < 4; kind++) {
        make_clean(2, kind % 2 == 0 ? 4 : 6, kind < 2 ? SPLIT_TCP : SPLIT_UDP, 40);
        for (size_t length = 0; length < packets[1].length; length++) {
            uint8_t *cut = malloc(length);
            memcpy(cut, packets[1].bytes, length);
            CHECK(!gro_begin(&group, cut, length));
            CHECK(gro_begin(&group, packets[0].bytes, packets[0].length));
            CHECK(!gro_extend(&group, cut, length));
            /* Its IP header tells the truth: there is not even a transport header. */
            size_t ip = kind % 2 == 0 ? 20 : 40;
            if (length >= ip && length <= ip + 8) {
                split_put_u16(cut + (kind % 2 == 0 ? 2 : 4), kind % 2 == 0 ? length : length - ip);
                CHECK(!gro_begin(&group, cut, length));
            }
            free(cut);
        }
    }
}

static void ip_has_version_4_or_6_and_ipv4_no_options(void) {
    const uint8_t odd[][2] = {{4, 0x46}, {4, 0x55}, {6, 0x50}, {6, 0x70}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        make_clean(1, odd[i][0], SPLIT_TCP, 1000);
        CHECK(gro_begin(&group, packets[0].bytes, packets[0].length));
        packets[0].bytes[0] = odd[i][1];
        CHECK(!gro_begin(&group, packets[0].bytes, packets[0].length));
    }
}

/* A first packet that nothing follows costs no look at its payload. */
static void a_lone_packet_is_not_summed(void) {
    make_clean(2, 4, SPLIT_TCP, 1368);
    packets[0].bytes[100] ^= 1;
    CHECK(gro_begin(&group, packets[0].bytes, packets[0].length));
    packets[1].bytes[8]++; /* another TTL */
    CHECK(!gro_extend(&group, packets[1].bytes, packets[1].length));
    CHECK(!group.is_closed);
    packets[1].bytes[8]--;
    CHECK(!gro_extend(&group, packets[1].bytes, packets[1].length));
    CHECK(group.is_closed); /* it was summed now, and is wrong */
}

int main(void) {
    RUN(ip_has_version_4_or_6_and_ipv4_no_options);
    RUN(what_is_put_together_is_what_the_model_says_and_splits_into_the_same_bytes);
    RUN(as_many_packets_as_64_kib_hold_become_one);
    RUN(a_super_packet_may_have_65535_bytes_and_no_more);
    RUN(a_tcp_segment_has_8_bytes_at_least);
    RUN(a_packet_with_one_wrong_bit_anywhere_is_never_merged);
    RUN(what_no_split_gives_back_is_not_merged_though_every_packet_has_it);
    RUN(identifications_go_on_as_the_second_packet_shows);
    RUN(a_datagram_without_a_checksum_is_never_merged);
    RUN(a_packet_cut_short_is_refused_without_reading_past_its_end);
    RUN(a_lone_packet_is_not_summed);
    return EXIT_SUCCESS;
}
