/* What the tun-reader takes the last train to have room for is what the link-writer puts into it; and
 * super-packets one behind the other make full trains. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "outbound/datagram_train.h"
#include "split_link.h"

enum { N_ROUNDS = 20000, SEGMENT = 1452, A_TRAIN = TRAIN_BYTES_MAX / SEGMENT };

static struct trains trains;
static struct writer_link peer;

static bool append(const struct ring_record *record, struct ring_view *view) {
    *view = (struct ring_view){.length = record->length,
                               .segment = record->segment,
                               .ecn = record->ecn,
                               .slot = record->slot,
                               .link_id = record->link_id};
    return trains_append(&trains, &peer, view);
}

static struct ring_record random_record(struct random *random) {
    uint32_t segment = random_below(random, 4) == 0 ? 700 : SEGMENT;
    uint32_t n = 1 + (uint32_t)random_below(random, TRAIN_BYTES_MAX / segment);
    n = n < TRAIN_SEGMENTS_MAX ? n : TRAIN_SEGMENTS_MAX;
    struct ring_record record = {
        .slot = SLOT, .link_id = 1, .segment = segment, .length = n * segment};
    if (random_below(random, 3) == 0)
        record.length -= (uint32_t)random_below(random, segment);
    if (n == 1)
        record.segment = random_below(random, 2) == 0 ? SEGMENT_WHOLE : SEGMENT_FRAGMENTS;
    record.ecn = random_below(random, 8) == 0 ? ECN_CE : ECN_NOT_ECT;
    return record;
}

/* So many datagrams continue the last train, and one more does not. */
static void check_room(const struct train_fill *fill, const struct ring_record *last,
                       uint32_t segment) {
    struct ring_record next = *last;
    struct ring_view view;
    struct trains before = trains;
    next.segment = next.length = segment;
    size_t room = train_fill_room(fill, &next, segment);
    if (room > 0) {
        next.length = (uint32_t)room * segment;
        CHECK(append(&next, &view));
        CHECK_EQUAL(trains.n, before.n);
        trains = before;
        next.length += segment;
        CHECK(append(&next, &view));
        CHECK_EQUAL(trains.n, before.n + 1);
    }
    trains = before;
}

static void the_room_that_it_sees_is_what_the_writer_puts_there(void) {
    struct random random = {4};
    size_t n_with_room = 0;
    struct ring_view views[TRAINS_MAX];
    struct train_fill fill = {0};
    for (int round = 0; round < N_ROUNDS; round++) {
        if (trains.n_records == TRAINS_MAX - 2) {
            memset(&trains, 0, sizeof trains);
            memset(&fill, 0, sizeof fill);
        }
        struct ring_record record = random_record(&random);
        CHECK(append(&record, &views[trains.n_records]));
        train_fill_note(&fill, &record);
        uint32_t segment = record.segment == SEGMENT_WHOLE ? record.length : record.segment;
        if (record.segment == SEGMENT_FRAGMENTS)
            continue;
        n_with_room += fill.n_bytes % segment == 0 && train_fill_room(&fill, &record, segment) > 0;
        check_room(&fill, &record, segment);
    }
    CHECK(n_with_room > N_ROUNDS / 10);
}

static void count(bool *is_first, size_t *n_records) {
    bool corrupt = false;
    const struct ring_view *record;
    while ((record = ring_peek(sender.lane.ring, &cursor, &corrupt)) != NULL) {
        static struct ring_view views[BATCH_RECORDS_MAX];
        if (*is_first)
            memset(&trains, 0, sizeof trains);
        *is_first = false;
        views[trains.n_records] = *record;
        CHECK(trains_append(&trains, &peer, &views[trains.n_records]));
        ++*n_records;
    }
}

static void give_without_ecn(const struct super_packet_shape *shape) {
    static struct super_packet made;
    static uint8_t bytes[VNET_LENGTH + SUPER_PACKET_MAX];
    super_packet_make(&made, &noise, shape);
    made.bytes[1] = 0;
    vnet_write(&made.vnet, bytes);
    memcpy(bytes + VNET_LENGTH, made.bytes, made.length);
    give_frame(bytes, VNET_LENGTH + made.length);
}

/* As a sender writes them, 128 KiB at a time: two long ones and a short one. */
static void super_packets_of_one_flow_make_full_trains(void) {
    static const size_t payloads[] = {47 * 1368, 47 * 1368, 2 * 1368};
    bool is_first = true;
    size_t n_records = 0, n_segments = 0;
    open_link(datagram_format(MTU), AEAD_AES_256_GCM);
    for (int i = 0; i < 12; i++) {
        struct super_packet_shape shape = tcp4(1368, payloads[i % 3]);
        shape.tcp_options = 12;
        give_without_ecn(&shape);
        n_segments += payloads[i % 3] / 1368;
        sender_run();
        count(&is_first, &n_records);
    }
    CHECK(trains.n <= (int)(n_segments / A_TRAIN) + 2);
    CHECK(n_records <= 24);
    size_t n = 0;
    for (int i = 0; i < trains.n; i++)
        n += (size_t)trains.trains[i].n_segments;
    CHECK_EQUAL(n, n_segments);
    sender_close();
}

int main(void) {
    RUN(the_room_that_it_sees_is_what_the_writer_puts_there);
    RUN(super_packets_of_one_flow_make_full_trains);
    return EXIT_SUCCESS;
}
