/* Putting packets together, against a model that knows each packet by what it was made of, and
 * against a splitter that cuts the result up again.
 */
#include "check.h"
#include "gro_model.h"
#include "packet/gro.h"
#include "packet/headers.h"

/* -- the code ---------------------------------------------------------------------------------- */

static struct gro_group group;

static size_t real_group(const struct packet *first, size_t n_left) {
    size_t n = 1;
    if (!gro_begin(&group, first->bytes, first->length, 0))
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
            CHECK(!gro_begin(&group, cut, length, 0));
            CHECK(gro_begin(&group, packets[0].bytes, packets[0].length, 0));
            CHECK(!gro_extend(&group, cut, length));
            /* Its IP header tells the truth: there is not even a transport header. */
            size_t ip = kind % 2 == 0 ? 20 : 40;
            if (length >= ip && length <= ip + 8) {
                split_put_u16(cut + (kind % 2 == 0 ? 2 : 4), kind % 2 == 0 ? length : length - ip);
                CHECK(!gro_begin(&group, cut, length, 0));
            }
            free(cut);
        }
    }
}

static void ip_has_version_4_or_6_and_ipv4_no_options(void) {
    const uint8_t odd[][2] = {{4, 0x46}, {4, 0x55}, {6, 0x50}, {6, 0x70}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        make_clean(1, odd[i][0], SPLIT_TCP, 1000);
        CHECK(gro_begin(&group, packets[0].bytes, packets[0].length, 0));
        packets[0].bytes[0] = odd[i][1];
        CHECK(!gro_begin(&group, packets[0].bytes, packets[0].length, 0));
    }
}

/* A split would have to repeat it, and it is not compared. */
static void ipv6_with_an_extension_header_is_never_merged(void) {
    make_clean(1, 6, SPLIT_TCP, 1000);
    CHECK(gro_begin(&group, packets[0].bytes, packets[0].length, 0));
    uint8_t *ip = packets[0].bytes, *extension = ip + IPV6_HEADER_SIZE;
    memmove(extension + EXTENSION_SIZE_MIN, extension, packets[0].length - IPV6_HEADER_SIZE);
    memset(extension, 0, EXTENSION_SIZE_MIN);
    extension[0] = ip[IPV6_NEXT_HEADER_OFFSET];
    ip[IPV6_NEXT_HEADER_OFFSET] = EXTENSION_DESTINATION;
    packets[0].length += EXTENSION_SIZE_MIN;
    be16_write(ip + IPV6_PAYLOAD_LENGTH_OFFSET, (uint16_t)(packets[0].length - IPV6_HEADER_SIZE));
    CHECK(!gro_begin(&group, packets[0].bytes, packets[0].length, 0));
}

/* A first packet that nothing follows costs no look at its payload. */
static void a_lone_packet_is_not_summed(void) {
    make_clean(2, 4, SPLIT_TCP, 1368);
    packets[0].bytes[100] ^= 1;
    CHECK(gro_begin(&group, packets[0].bytes, packets[0].length, 0));
    packets[1].bytes[8]++; /* another TTL */
    CHECK(!gro_extend(&group, packets[1].bytes, packets[1].length));
    CHECK(!group.is_closed);
    packets[1].bytes[8]--;
    CHECK(!gro_extend(&group, packets[1].bytes, packets[1].length));
    CHECK(group.is_closed); /* it was summed now, and is wrong */
}

int main(void) {
    RUN(ip_has_version_4_or_6_and_ipv4_no_options);
    RUN(ipv6_with_an_extension_header_is_never_merged);
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
