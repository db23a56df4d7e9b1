/* The link-reader's keys on the sealed wire: which messages open, which keys are confirmed, which
 * go when there are too many; and handshake messages, which go up to the gateway. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "packet/byteorder.h"
#include "check.h"
#include "worker/key_commands.h"
#include "sealed_link.h"
#include "sockets.h"

/* -- keys and events --------------------------------------------------------------------------- */

static void each_key_is_confirmed_once(void) {
    reader_open(AEAD_CHACHA20_POLY1305);
    add_key(KEY + 1, INDEX + 1, 0);
    for (uint64_t counter = 0; counter < 4; counter++) {
        send_good(counter);
        make_packet(KEY + 1, INDEX + 1, counter);
        send_sealed();
    }
    check_counts(8, NO_DROP, 0);
    CHECK_EQUAL(reader.n_events, 2);
    CHECK_EQUAL(reader.events[0].kind, EVENT_CONFIRMED);
    CHECK_EQUAL(reader.events[0].index, INDEX);
    CHECK_EQUAL(reader.events[1].kind, EVENT_CONFIRMED);
    CHECK_EQUAL(reader.events[1].index, INDEX + 1);
    reader_close();
}

static void a_message_that_opens_to_nonsense_confirms_its_key_all_the_same(void) {
    const uint8_t nonsense[16] = {0x55};
    reader_open(AEAD_CHACHA20_POLY1305);
    send_content(0, nonsense, sizeof nonsense);
    check_counts(0, DROP_link_reader_not_ip, 1);
    CHECK_EQUAL(count_events(EVENT_CONFIRMED), 1);
    reader_close();
}

static void handshake_messages_go_up_whole_and_in_order_among_data(void) {
    const size_t lengths[] = {0, 148, 92, 64};
    uint8_t message[HANDSHAKE_BYTES_MAX];
    reader_open(AEAD_AES_256_GCM);
    for (uint8_t i = 0; i < 12; i++) {
        unsigned type = 1 + i % 3;
        memset(message, i, sizeof message);
        le32_write(message, type);
        send_raw(message, lengths[type]);
        send_good(i);
    }
    check_counts(12, NO_DROP, 0);
    CHECK_EQUAL(count_events(EVENT_STREAM_HANDSHAKE), 12);
    uint8_t next = 0;
    for (size_t i = 0; i < reader.n_events; i++) {
        const struct loop_event *event = &reader.events[i];
        if (event->kind != EVENT_STREAM_HANDSHAKE)
            continue;
        CHECK_EQUAL(event->length, lengths[1 + next % 3]);
        CHECK_EQUAL(le32_read(event->bytes), 1 + next % 3);
        for (size_t at = 4; at < event->length; at++)
            CHECK_EQUAL(event->bytes[at], next);
        next++;
    }
    reader_close();
}

/* Adds keys 1 .. n; index and number are the same. */
static void add_keys(unsigned first, unsigned last) {
    for (unsigned key = first; key <= last; key++)
        add_key(key, key, 0);
}

/* Sends under keys 1 .. n; exactly those that are held open. */
static void check_held(unsigned n, const bool *is_held) {
    size_t n_held = 0;
    for (unsigned key = 1; key <= n; key++) {
        make_packet(key, key, 9);
        send_sealed();
        n_held += is_held[key];
    }
    check_counts(n_held, DROP_link_reader_unknown_index, n - n_held);
    CHECK_EQUAL(count_events(EVENT_CONFIRMED), n_held);
    for (size_t i = 0; i < reader.n_events; i++)
        CHECK(is_held[reader.events[i].index]);
    reader_close();
}

static void of_five_keys_the_oldest_goes(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    add_keys(1, 5);
    check_held(5, (const bool[]){0, false, true, true, true, true});
    reader_open_mode(AEAD_AES_256_GCM, MODE_TUN);
    add_keys(1, 7);
    check_held(7, (const bool[]){0, false, false, false, true, true, true, true});
}

/* Handshakes that are never finished do not cost the session that is in use. */
static void a_key_that_was_never_used_goes_before_one_that_was(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    add_keys(1, 2);
    make_packet(1, 1, 0);
    send_sealed();
    CHECK_EQUAL(loop_run(reader.loop), LOOP_EVENT);
    CHECK_EQUAL(loop_event(reader.loop)->kind, EVENT_CONFIRMED);
    add_keys(3, 6);
    for (unsigned key = 1; key <= 6; key++) {
        make_packet(key, key, 1);
        send_sealed();
    }
    check_counts(1 + 1 + 3, DROP_link_reader_unknown_index, 2);
    for (size_t i = 0; i < reader.n_events; i++)
        CHECK_EQUAL(reader.events[i].index, 4 + i); /* key 1 was reported before */
    CHECK_EQUAL(reader.n_events, 3);
    reader_close();
}

/* Of two handshakes that cross the peer may seal under either, and does not do so yet. */
static void the_only_key_that_was_not_used_yet_stays(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    for (unsigned key = 1; key <= 3; key++)
        add_key(key, key, 1); /* the gateway has seen their counter 0 */
    add_keys(4, 5);
    for (unsigned key = 1; key <= 5; key++) {
        make_packet(key, key, 1);
        send_sealed();
    }
    check_counts(4, DROP_link_reader_unknown_index, 1);
    CHECK_EQUAL(reader.n_events, 2);
    for (size_t i = 0; i < reader.n_events; i++)
        CHECK_EQUAL(reader.events[i].index, 4 + i);
    reader_close();
}

static void of_keys_that_were_all_used_the_oldest_goes(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    for (unsigned key = 1; key <= 4; key++)
        add_key(key, key, 1); /* the gateway has seen their counter 0 */
    add_key(5, 5, 1);
    for (unsigned key = 1; key <= 5; key++) {
        make_packet(key, key, 1);
        send_sealed();
    }
    check_counts(4, DROP_link_reader_unknown_index, 1);
    reader_close();
}

static void forgotten_keys_open_nothing_and_a_new_one_does(void) {
    reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
    add_keys(1, 3);
    loop_forget_receiving_keys(reader.loop, SLOT);
    loop_forget_receiving_keys(reader.loop, OTHER_SLOT); /* none */
    add_keys(4, 4);
    check_held(4, (const bool[]){0, false, false, false, true});
}

/* In front of libc's, which secret_memory.c calls of each new mapping for keys. */
static bool is_memory_short;

int madvise(void *address, size_t length, int advice) {
    errno = ENOMEM;
    return is_memory_short ? -1 : (int)syscall(SYS_madvise, address, length, advice);
}

static void keys_that_cannot_be_made_cost_no_other_its_place(void) {
    static struct aead_key *others[4096]; /* all that there is room for */
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, KEY);
    for (unsigned i = 0; i < 2; i++) {
        size_t n = 0;
        reader_open(aeads[i]);
        is_memory_short = true;
        while ((others[n] = aead_key_new(reader.aead, key)) != NULL)
            CHECK(++n < 4096);
        for (uint32_t index = 1; index <= 8; index++)
            CHECK(key_add_for_receiving(reader.loop, SLOT, reader.aead, key, index, 0, UINT64_MAX) <
                  0);
        is_memory_short = false;
        while (n > 0)
            aead_key_free(others[--n]);
        send_good(0);
        check_counts(1, NO_DROP, 0);
        reader_close();
    }
}

static void keys_outlive_the_link(void) {
    struct link_format format = sealed_format(MODE_TUN, true);
    reader_open(AEAD_CHACHA20_POLY1305);
    loop_detach_link(reader.loop, SLOT);
    CHECK_EQUAL(loop_attach_link(reader.loop, SLOT, 1, reader.stream[0], &format), 0);
    send_good(0);
    check_counts(1, NO_DROP, 0);
    reader_close();
}

static void a_key_opens_until_it_expires(void) {
    uint8_t key[AEAD_KEY_SIZE];
    sealing_key(key, KEY);
    for (unsigned is_over = 0; is_over < 2; is_over++) {
        reader_open_mode(AEAD_CHACHA20_POLY1305, MODE_TUN);
        uint64_t expires_ns = clock_boottime_ns() + (is_over ? 0 : 60000000000);
        CHECK_EQUAL(
            key_add_for_receiving(reader.loop, SLOT, reader.aead, key, INDEX, 0, expires_ns), 0);
        send_good(0);
        check_counts(!is_over, is_over ? DROP_link_reader_unknown_index : NO_DROP, is_over);
        CHECK_EQUAL(field(SLOT, "received_ns") != 0, !is_over);
        reader_close();
    }
}

static void another_peers_key_does_not_open_on_this_link(void) {
    uint8_t key[AEAD_KEY_SIZE];
    struct link_format format = sealed_format(MODE_TUN, true);
    int other[2];
    reader_open(AEAD_CHACHA20_POLY1305);
    pair_open(other, SOCK_STREAM | SOCK_NONBLOCK);
    CHECK_EQUAL(loop_attach_link(reader.loop, OTHER_SLOT, 2, other[0], &format), 0);
    sealing_key(key, KEY + 1);
    CHECK_EQUAL(
        key_add_for_receiving(reader.loop, OTHER_SLOT, reader.aead, key, INDEX + 1, 0, UINT64_MAX),
        0);
    make_packet(KEY + 1, INDEX + 1, 0);
    send_sealed();
    check_counts(0, DROP_link_reader_unknown_index, 1);
    reader_close();
    pair_close(other);
}

static void what_is_for_no_slot_or_another_peers_is_refused(void) {
    const uint8_t key[AEAD_KEY_SIZE] = {0};
    struct loop *loop;
    reader_open(AEAD_CHACHA20_POLY1305);
    loop = reader.loop;
    CHECK(key_add_for_receiving(loop, OTHER_SLOT, reader.aead, key, INDEX, 0, UINT64_MAX) < 0);
    CHECK(key_add_for_receiving(loop, N_PEER_SLOTS, reader.aead, key, 1, 0, UINT64_MAX) < 0);
    CHECK(key_use_for_sending(loop, OTHER_SLOT, reader.aead, key, 1, &(struct counter_source){0},
                              UINT64_MAX) < 0);
    CHECK(loop_allow_ip(loop, N_PEER_SLOTS + 1, key, 4, 32) < 0);
    CHECK(loop_allow_ip(loop, 0, key, 5, 32) < 0);
    CHECK(loop_allow_ip(loop, 0, key, 4, 33) < 0);
    CHECK(loop_allow_ip(loop, 0, key, 16, 129) < 0);
    loop_forget_receiving_keys(loop, UINT32_MAX);
    loop_forget_ips(loop, N_PEER_SLOTS);
    send_good(0);
    check_counts(1, NO_DROP, 0);
    reader_close();
}

int main(void) {
    RUN(each_key_is_confirmed_once);
    RUN(a_message_that_opens_to_nonsense_confirms_its_key_all_the_same);
    RUN(handshake_messages_go_up_whole_and_in_order_among_data);
    RUN(of_five_keys_the_oldest_goes);
    RUN(a_key_that_was_never_used_goes_before_one_that_was);
    RUN(the_only_key_that_was_not_used_yet_stays);
    RUN(of_keys_that_were_all_used_the_oldest_goes);
    RUN(forgotten_keys_open_nothing_and_a_new_one_does);
    RUN(keys_that_cannot_be_made_cost_no_other_its_place);
    RUN(keys_outlive_the_link);
    RUN(a_key_opens_until_it_expires);
    RUN(another_peers_key_does_not_open_on_this_link);
    RUN(what_is_for_no_slot_or_another_peers_is_refused);
    return EXIT_SUCCESS;
}
