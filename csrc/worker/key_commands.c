/* key_commands: what Python orders a tun-reader or link-reader to do with the keys of sessions. */
#define _GNU_SOURCE
#include "worker/key_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inbound/link_reader.h"
#include "outbound/frame.h"
#include "outbound/own_packets.h"
#include "outbound/tun_reader.h"
#include "session/key_region.h"
#include "session/session_key.h"

/* NULL: the peer has no link, or this is another role. */
static struct tun_reader_link *outbound_link(struct loop *loop, unsigned slot) {
    return loop->role == ROLE_tun_reader && slot < N_PEER_SLOTS ? tun_reader_of(loop)->links[slot]
                                                                : NULL;
}

/* -- sealing ----------------------------------------------------------------------------------- */

int key_use_for_sending(struct loop *loop, unsigned slot, enum aead aead,
                        const uint8_t key[AEAD_KEY_SIZE], uint32_t receiver_index,
                        const struct counter_source *source, uint64_t expires_ns) {
    struct tun_reader_link *link = outbound_link(loop, slot);
    if (link == NULL)
        return -ENOENT;
    struct sending_counters *counters = tun_reader_of(loop)->sending;
    if (counters == NULL || source->place >= SENDING_PLACES)
        return -EINVAL;
    struct sending_key *sending = calloc(1, sizeof *sending);
    if (sending == NULL)
        return -ENOMEM;
    *sending = (struct sending_key){
        .key = aead_key_new(aead, key),
        .aead = aead,
        .receiver_index = receiver_index,
        .counter = &counters->places[slot][source->place],
        .base = source->base,
        .expires_ns = expires_ns,
    };
    if (sending->key == NULL) {
        sending_key_free(sending);
        return -ENOMEM;
    }
    session_go_on(sending, link->sending);
    sending_key_free(link->sending);
    link->sending = sending;
    own_packets_changed(tun_reader_of(loop)->own_packets);
    frame_note_sealed(tun_reader_of(loop), link, slot);
    return 0;
}

int loop_set_sending_key(struct loop *loop, const struct key_area *area,
                         const struct key_name *name, unsigned slot, enum aead aead,
                         uint32_t receiver_index, const struct counter_source *source,
                         uint64_t expires_ns) {
    uint8_t key[AEAD_KEY_SIZE];
    int error = session_key_of(area, name, aead, key);
    if (error == 0)
        error = key_use_for_sending(loop, slot, aead, key, receiver_index, source, expires_ns);
    explicit_bzero(key, sizeof key);
    return error;
}

void loop_forget_sending_key(struct loop *loop, unsigned slot) {
    struct tun_reader_link *link = outbound_link(loop, slot);
    if (link == NULL)
        return;
    sending_key_free(link->sending);
    link->sending = NULL;
    own_packets_changed(tun_reader_of(loop)->own_packets);
}

/* -- opening ----------------------------------------------------------------------------------- */

int key_add_for_receiving(struct loop *loop, unsigned slot, enum aead aead,
                          const uint8_t key[AEAD_KEY_SIZE], uint32_t index, uint64_t counter,
                          uint64_t expires_ns) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL || slot >= N_PEER_SLOTS)
        return -EINVAL;
    struct receiving_key *receiving = key_table_add(reader->keys, slot, index);
    if (receiving == NULL)
        return -EEXIST;
    int error = receiving_key_offer(receiving, aead, key);
    if (error < 0) {
        key_table_forget_empty(reader->keys, receiving);
        return error;
    }
    receiving->expires_ns = expires_ns;
    if (counter > 0)
        receiving->is_confirmed = receiving->is_reported = true;
    receiving_key_use_up(receiving, counter);
    return 0;
}

int loop_add_receiving_key(struct loop *loop, const struct key_area *area,
                           const struct key_name *name, unsigned slot, enum aead aead,
                           uint32_t index, uint64_t counter, uint64_t expires_ns) {
    uint8_t key[AEAD_KEY_SIZE];
    int error = session_key_of(area, name, aead, key);
    if (error == 0)
        error = key_add_for_receiving(loop, slot, aead, key, index, counter, expires_ns);
    explicit_bzero(key, sizeof key);
    return error;
}

int loop_take_over_receiving_key(struct loop *loop, unsigned slot, uint32_t index) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader == NULL || slot >= N_PEER_SLOTS)
        return -EINVAL;
    return key_table_take_over(reader->keys, slot, index) != NULL ? 0 : -ENOENT;
}

void loop_forget_receiving_keys(struct loop *loop, unsigned slot) {
    struct link_reader *reader = link_reader_of(loop);
    if (reader != NULL && slot < N_PEER_SLOTS)
        key_table_forget_slot(reader->keys, slot);
}
