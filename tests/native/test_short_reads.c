/* Reads that give less than one hopes for: half a length prefix, or nothing after all. */
#define _GNU_SOURCE
#include <pthread.h>

#include "check.h"
#include "sealed_link.h"

enum { PAUSE_US = 30 * 1000 };

static void *run(void *end) {
    *(enum loop_end *)end = loop_run(reader.loop);
    return NULL;
}

static void ring(pthread_t loop, const enum loop_end *end) {
    usleep(PAUSE_US);
    CHECK_EQUAL(write(reader.worker.channel[0], "!", 1), 1);
    CHECK_EQUAL(pthread_join(loop, NULL), 0);
    CHECK_EQUAL(*end, LOOP_DOORBELL);
}

/* The other byte of the buffer is left from the message before. */
static void half_a_length_is_not_a_length(void) {
    uint8_t unknown[256] = {0x77}; /* its prefix is 1, 0 */
    enum loop_end end;
    pthread_t loop;
    reader_open(AEAD_CHACHA20_POLY1305);
    add_key(KEY + 1, INDEX + 1, 1); /* confirmed, so that nothing is to be reported */
    CHECK_EQUAL(pthread_create(&loop, NULL, run, &end), 0);
    send_raw(unknown, sizeof unknown);
    usleep(PAUSE_US);
    make_packet(KEY + 1, INDEX + 1, 1);
    CHECK_EQUAL(sealed.bytes[0], 0);
    CHECK_EQUAL(write(reader.stream[1], sealed.bytes, 1), 1);
    usleep(PAUSE_US);
    CHECK_EQUAL(write(reader.stream[1], sealed.bytes + 1, sealed.length - 1), sealed.length - 1);
    ring(loop, &end);
    CHECK_EQUAL(stats_read_drop(reader.lane.stats, DROP_link_reader_bad_length), 0);
    CHECK_EQUAL(stats_read_drop(reader.lane.stats, DROP_link_reader_bad_type), 1);
    CHECK_EQUAL(field(SLOT, "receive_packets"), 1);
    reader_close();
}

/* Here because another link has read the same socket first. */
static void a_link_with_nothing_to_read_after_all_goes_on(void) {
    struct link_format format = sealed_format(MODE_TUN, true);
    enum loop_end end;
    pthread_t loop;
    reader_open(AEAD_CHACHA20_POLY1305);
    add_key(KEY + 1, INDEX + 1, 1);
    int same = dup(reader.stream[0]);
    CHECK_EQUAL(loop_attach_link(reader.loop, OTHER_SLOT, 2, same, &format), 0);
    make_packet(KEY + 1, INDEX + 1, 1);
    send_sealed();
    CHECK_EQUAL(pthread_create(&loop, NULL, run, &end), 0);
    ring(loop, &end);
    CHECK_EQUAL(stats_read_call(reader.lane.stats, ROLE_link_reader, CALL_recvmsg), 2);
    reader_close();
    close(same);
}

int main(void) {
    RUN(half_a_length_is_not_a_length);
    RUN(a_link_with_nothing_to_read_after_all_goes_on);
    return EXIT_SUCCESS;
}
