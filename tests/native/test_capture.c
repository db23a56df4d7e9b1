/* A capture has what its stages see, of the peer that it wants, with reasons; and never holds a worker
 * up. The packets are those of a link-reader on the sealed wire; what reads the ring is what a
 * capturing process uses. */
#define _GNU_SOURCE
#include <errno.h>

#include "check.h"
#include "capture.h"
#include "loop/capture.h"
#include "packet/byteorder.h"
#include "sealed_link.h"

enum { SNAP = 40, FILE_BYTES = 1 << 20, BLOCK_HEADER = 28, MADE_UP = 28, N_MOST = 1000 };

static struct ring *ring;
static int ring_fd;
static uint8_t file[FILE_BYTES];
static size_t file_length;
static struct capture_output output;

static void capture(unsigned stages, int slot) {
    ring = ring_create(RING_SIZE_MIN, &ring_fd);
    CHECK(ring != NULL);
    reader_open(AEAD_CHACHA20_POLY1305);
    CHECK_EQUAL(loop_capture(reader.loop, ring, stages, slot, SNAP), 0);
}

static void read_all(void) {
    output = (struct capture_output){.interfaces = {10, 11, 12}, .n_left = N_MOST};
    int n = capture_read(&ring, 1, &output, file, sizeof file);
    CHECK(n >= 0);
    file_length = (size_t)n;
}

static void done(void) {
    reader_close();
    ring_detach(ring);
    close(ring_fd);
}

static uint32_t word(size_t at) {
    uint32_t value;
    memcpy(&value, file + at, sizeof value);
    return value;
}

static size_t block(unsigned n) {
    size_t at = 0;
    for (; n > 0; n--)
        at += word(at + 4);
    CHECK(at < file_length);
    CHECK_EQUAL(word(at), 6);
    CHECK_EQUAL(word(at + word(at + 4) - 4), word(at + 4));
    return at;
}

static bool block_has(unsigned n, const char *text) {
    size_t at = block(n);
    return memmem(file + at, word(at + 4), text, strlen(text)) != NULL;
}

static void each_stage_has_its_interface_and_the_beginning_of_the_packet(void) {
    capture(1 << CAPTURE_SEALED | 1 << CAPTURE_OPENED, CAPTURE_ALL_PEERS);
    send_good(0);
    check_counts(1, NO_DROP, 0);
    read_all();
    CHECK_EQUAL(output.n_packets[CAPTURE_SEALED], 1);
    CHECK_EQUAL(output.n_packets[CAPTURE_OPENED], 1);
    CHECK_EQUAL(output.n_packets[CAPTURE_DEVICE], 0);
    CHECK_EQUAL(word(block(0) + 8), 11);
    CHECK_EQUAL(word(block(0) + 20), MADE_UP + SNAP);
    CHECK_EQUAL(word(block(0) + 24), MADE_UP + PACKET + 32);
    CHECK_EQUAL(file[BLOCK_HEADER], 0x45);
    CHECK_EQUAL(file[BLOCK_HEADER + MADE_UP], MESSAGE_DATA_CHACHA);
    CHECK_EQUAL(word(block(1) + 8), 12);
    CHECK_EQUAL(word(block(1) + 20), SNAP);
    CHECK_EQUAL(word(block(1) + 24), PACKET);
    done();
}

static void a_stage_that_is_not_wanted_is_not_there(void) {
    capture(1 << CAPTURE_OPENED, CAPTURE_ALL_PEERS);
    send_good(0);
    check_counts(1, NO_DROP, 0);
    read_all();
    CHECK_EQUAL(output.n_packets[CAPTURE_SEALED], 0);
    CHECK_EQUAL(output.n_packets[CAPTURE_OPENED], 1);
    done();
}

static void without_an_order_and_after_its_end_nothing_is_copied(void) {
    capture(1 << CAPTURE_SEALED, CAPTURE_ALL_PEERS);
    CHECK_EQUAL(loop_capture(reader.loop, NULL, 0, 0, 0), 0);
    send_good(0);
    check_counts(1, NO_DROP, 0);
    read_all();
    CHECK_EQUAL(file_length, 0);
    CHECK_EQUAL(capture_lost(ring, CAPTURE_SEALED), 0);
    done();
}

static void what_is_dropped_says_why_at_the_last_stage_that_has_it(void) {
    capture(1 << CAPTURE_SEALED | 1 << CAPTURE_OPENED, CAPTURE_ALL_PEERS);
    send_good(0);
    send_good(0);
    check_counts(1, DROP_link_reader_replayed, 1);
    read_all();
    CHECK(!block_has(0, "dropped"));
    CHECK(!block_has(1, "dropped"));
    CHECK(block_has(2, "dropped by the link-reader: replayed (a data message whose counter"));
    CHECK_EQUAL(output.n_packets[CAPTURE_SEALED], 2);
    done();
}

static void a_source_of_another_is_the_reason_even_where_only_messages_are_wanted(void) {
    for (unsigned stage = CAPTURE_SEALED; stage <= CAPTURE_OPENED; stage++) {
        capture(1u << stage, CAPTURE_ALL_PEERS);
        allow(OTHER_SLOT, PEER_ADDRESS);
        send_good(0);
        check_counts(0, DROP_link_reader_bad_source, 1);
        read_all();
        CHECK(block_has(0, "dropped by the link-reader: bad_source"));
        done();
    }
}

static void of_one_peer_nothing_of_another_is_there(void) {
    static const int slots[] = {SLOT, OTHER_SLOT};
    for (int i = 0; i < 2; i++) {
        capture(1 << CAPTURE_SEALED | 1 << CAPTURE_OPENED, slots[i]);
        send_good(0);
        check_counts(1, NO_DROP, 0);
        read_all();
        CHECK_EQUAL(output.n_packets[CAPTURE_SEALED], slots[i] == SLOT);
        CHECK_EQUAL(output.n_packets[CAPTURE_OPENED], slots[i] == SLOT);
        done();
    }
}

/* As a worker copies, without the worker. */
static struct capture *begin_alone(int slot) {
    static struct stats_block stats;
    ring = ring_create(RING_SIZE_MIN, &ring_fd);
    CHECK(ring != NULL);
    struct capture *copier = capture_new(ring, &stats, 1 << CAPTURE_DEVICE, slot, CAPTURE_SNAP_MAX);
    CHECK(copier != NULL);
    return copier;
}

static void copy_one(struct capture *copier, int slot, size_t length) {
    static const uint8_t bytes[CAPTURE_SNAP_MAX + 100];
    struct captured what = {CAPTURE_DEVICE, true, slot, NULL};
    capture_frame(copier, &what, bytes, length);
    capture_end(copier);
    capture_publish(copier);
}

static void end_alone(struct capture *copier) {
    capture_free(copier);
    ring_detach(ring);
    close(ring_fd);
}

static void what_finds_no_room_is_counted_and_what_is_read_makes_room(void) {
    struct capture *copier = begin_alone(CAPTURE_ALL_PEERS);
    enum { N = 20, LENGTH = 50000 };
    for (int i = 0; i < N; i++)
        copy_one(copier, 0, LENGTH);
    uint64_t n_lost = capture_lost(ring, CAPTURE_DEVICE);
    CHECK(n_lost > 0);
    read_all();
    CHECK_EQUAL(output.n_packets[CAPTURE_DEVICE] + n_lost, N);
    copy_one(copier, 0, LENGTH);
    CHECK_EQUAL(capture_lost(ring, CAPTURE_DEVICE), n_lost);
    read_all();
    CHECK_EQUAL(output.n_packets[CAPTURE_DEVICE], 1);
    end_alone(copier);
}

static void what_is_of_another_peer_is_not_lost_either(void) {
    struct capture *copier = begin_alone(1);
    for (int i = 0; i < 20; i++)
        copy_one(copier, 1, 50000);
    uint64_t n_lost = capture_lost(ring, CAPTURE_DEVICE);
    copy_one(copier, 2, 50000);
    CHECK_EQUAL(capture_lost(ring, CAPTURE_DEVICE), n_lost);
    end_alone(copier);
}

static void any_length_is_taken(void) {
    struct capture *copier = begin_alone(CAPTURE_ALL_PEERS);
    static const size_t lengths[] = {0, 1, 2, 3, 4, CAPTURE_SNAP_MAX, CAPTURE_SNAP_MAX + 100};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        copy_one(copier, 0, lengths[i]);
        read_all();
        size_t copied = lengths[i] < CAPTURE_SNAP_MAX ? lengths[i] : CAPTURE_SNAP_MAX;
        CHECK_EQUAL(word(block(0) + 20), copied);
        CHECK_EQUAL(word(block(0) + 24), lengths[i]);
        CHECK_EQUAL(word(4), file_length);
    }
    end_alone(copier);
}

static void no_more_are_read_than_are_wanted_or_fit(void) {
    struct capture *copier = begin_alone(CAPTURE_ALL_PEERS);
    for (int i = 0; i < 5; i++)
        copy_one(copier, 0, 100);
    output = (struct capture_output){.n_left = 2};
    CHECK(capture_read(&ring, 1, &output, file, sizeof file) > 0);
    CHECK_EQUAL(output.n_packets[CAPTURE_DEVICE], 2);
    output.n_left = 10;
    CHECK_EQUAL(capture_read(&ring, 1, &output, file, CAPTURE_BLOCK_MAX - 1), 0);
    CHECK(capture_read(&ring, 1, &output, file, CAPTURE_BLOCK_MAX) > 0);
    CHECK_EQUAL(output.n_packets[CAPTURE_DEVICE], 3);
    end_alone(copier);
}

/* Whatever a worker that was taken over writes there, nothing is read beside it. */
static void damaged_memory_ends_it(void) {
    for (int i = 0; i < 3; i++) {
        struct capture *copier = begin_alone(CAPTURE_ALL_PEERS);
        copy_one(copier, 0, 100);
        struct ring_record *record = (struct ring_record *)(void *)ring->data;
        if (i == 0)
            record->length = 8; /* no room for the path */
        else if (i == 1)
            record->link_id = CAPTURE_STAGE_MASK;
        else
            record->space = 1;
        output = (struct capture_output){.n_left = 2};
        CHECK_EQUAL(capture_read(&ring, 1, &output, file, sizeof file), -EBADMSG);
        end_alone(copier);
    }
}

int main(void) {
    RUN(each_stage_has_its_interface_and_the_beginning_of_the_packet);
    RUN(a_stage_that_is_not_wanted_is_not_there);
    RUN(without_an_order_and_after_its_end_nothing_is_copied);
    RUN(what_is_dropped_says_why_at_the_last_stage_that_has_it);
    RUN(a_source_of_another_is_the_reason_even_where_only_messages_are_wanted);
    RUN(of_one_peer_nothing_of_another_is_there);
    RUN(what_finds_no_room_is_counted_and_what_is_read_makes_room);
    RUN(what_is_of_another_peer_is_not_lost_either);
    RUN(any_length_is_taken);
    RUN(no_more_are_read_than_are_wanted_or_fit);
    RUN(damaged_memory_ends_it);
    return EXIT_SUCCESS;
}
