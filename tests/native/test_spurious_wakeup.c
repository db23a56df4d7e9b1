/* A link that is said to be readable and then is not: here because another one has read the same
 * socket first. It is no end of the link. */
#define _GNU_SOURCE
#include <pthread.h>

#include "check.h"
#include "sealed_link.h"

static void *ring_later(void *argument) {
    (void)argument;
    usleep(50 * 1000);
    CHECK_EQUAL(write(reader.channel[0], "!", 1), 1);
    return NULL;
}

static void a_link_with_nothing_to_read_after_all_goes_on(void) {
    struct link_format format = sealed_format(MODE_TUN, true);
    pthread_t gateway;
    reader_open(AEAD_CHACHA20_POLY1305);
    add_key(KEY + 1, INDEX + 1, 1); /* confirmed, so that nothing is to be told */
    int same = dup(reader.stream[0]);
    CHECK_EQUAL(loop_attach_link(reader.loop, OTHER_SLOT, 2, same, &format), 0);
    make_packet(KEY + 1, INDEX + 1, 1);
    send_sealed();
    CHECK_EQUAL(pthread_create(&gateway, NULL, ring_later, NULL), 0);
    CHECK_EQUAL(loop_run(reader.loop), LOOP_DOORBELL);
    CHECK_EQUAL(pthread_join(gateway, NULL), 0);
    CHECK_EQUAL(stats_read_call(reader.stats, ROLE_link_reader, CALL_readv), 2);
    reader_close();
    close(same);
}

int main(void) {
    RUN(a_link_with_nothing_to_read_after_all_goes_on);
    return EXIT_SUCCESS;
}
