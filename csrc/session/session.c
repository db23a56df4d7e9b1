#include "session/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "packet/byteorder.h"

static uint8_t data_type(enum aead aead) {
    return aead == AEAD_AES_256_GCM ? MESSAGE_DATA_AES : MESSAGE_DATA_CHACHA;
}

static enum aead aead_of(const uint8_t *message) {
    return message[0] == MESSAGE_DATA_AES ? AEAD_AES_256_GCM : AEAD_CHACHA20_POLY1305;
}

/* -- keys -------------------------------------------------------------------------------------- */

void sending_key_free(struct sending_key *sending) {
    if (sending != NULL && sending->key != NULL)
        aead_key_free(sending->key);
    free(sending);
}

static void withdraw(struct receiving_key *receiving, enum aead aead) {
    aead_key_free(receiving->keys[aead]);
    secret_free(receiving->later[aead]);
    receiving->keys[aead] = NULL;
    receiving->later[aead] = NULL;
}

void receiving_key_free(struct receiving_key *receiving) {
    for (int aead = 0; receiving != NULL && aead < N_AEADS; aead++)
        withdraw(receiving, (enum aead)aead);
    free(receiving);
}

static bool is_first(const struct receiving_key *receiving) {
    for (int aead = 0; aead < N_AEADS; aead++)
        if (receiving->keys[aead] != NULL)
            return false;
    return true;
}

int receiving_key_offer(struct receiving_key *receiving, enum aead aead,
                        const uint8_t key[AEAD_KEY_SIZE]) {
    withdraw(receiving, aead);
    if (is_first(receiving))
        receiving->keys[aead] = aead_key_new(aead, key);
    else
        receiving->later[aead] = secret_new(key);
    return receiving->keys[aead] != NULL || receiving->later[aead] != NULL ? 0 : -errno;
}

bool receiving_key_is_empty(const struct receiving_key *receiving) {
    for (int aead = 0; aead < N_AEADS; aead++)
        if (receiving->keys[aead] != NULL || receiving->later[aead] != NULL)
            return false;
    return true;
}

/* NULL: not offered; or no memory, and the next message tries again. */
static struct aead_key *key_for(struct receiving_key *receiving, enum aead aead) {
    struct aead_key *key = receiving->keys[aead];
    struct secret *later = receiving->later[aead];
    if (key != NULL || later == NULL)
        return key;
    key = aead_key_new(aead, secret_bytes(later));
    if (key == NULL)
        return NULL;
    withdraw(receiving, aead);
    return receiving->keys[aead] = key;
}

static void set_mark(struct receiving_key *receiving) {
    if (receiving->mark != NULL)
        replay_mark_set(receiving->mark, receiving->replay.next);
}

void receiving_key_use_up(struct receiving_key *receiving, uint64_t counter) {
    replay_use_up(&receiving->replay, counter);
    set_mark(receiving);
}

/* -- counters ---------------------------------------------------------------------------------- */

uint64_t session_next_counter(const struct sending_key *sending) {
    if (sending->next < sending->end)
        return sending->next;
    return sending_counter_drawn(sending->counter) - sending->base;
}

static bool is_same_session(const struct sending_key *one, const struct sending_key *other) {
    return one->receiver_index == other->receiver_index && one->counter == other->counter &&
           one->base == other->base;
}

void session_go_on(struct sending_key *sending, const struct sending_key *before) {
    struct sending_counter *counter = sending->counter;
    if (before != NULL && is_same_session(sending, before)) {
        sending->next = before->next;
        sending->end = before->end;
    }
    if (atomic_load(&counter->base) == sending->base &&
        atomic_load(&counter->index) == sending->receiver_index)
        return;
    atomic_store(&counter->n_blocks, 0); /* first: one killed behind it has sealed nothing yet */
    atomic_store(&counter->base, sending->base);
    atomic_store(&counter->index, sending->receiver_index);
}

/* Looked at before, so that nothing is drawn in vain for ever, and after: the gateway may have drawn
 * the last one in between. */
bool session_draw(struct sending_key *sending, unsigned n) {
    if (sending->end - sending->next >= n)
        return true;
    sending->next = sending->end;
    if (session_next_counter(sending) > REJECT_AFTER_MESSAGES - n)
        return false;
    uint64_t first = sending_counter_draw(sending->counter, n) - sending->base;
    if (first > REJECT_AFTER_MESSAGES - n)
        return false;
    sending->next = first;
    sending->end = first + n;
    return true;
}

/* -- sealing ----------------------------------------------------------------------------------- */

size_t session_padded(size_t length, size_t mtu) {
    size_t n_zeros = (DATA_PADDING - length % DATA_PADDING) % DATA_PADDING;
    if (mtu != 0 && length + n_zeros > mtu)
        n_zeros = mtu > length ? mtu - length : 0;
    return length + n_zeros;
}

static void pad(struct message_outbound *message, size_t mtu) {
    size_t length = session_padded(message->length, mtu);
    memset(message->start + message->length, 0, length - message->length);
    message->length = length;
}

/* The blocks of the content, and two for each message: the tag's mask and the last hash block. */
static uint64_t count_blocks(size_t length) {
    return (length + AES_BLOCK - 1) / AES_BLOCK + 2;
}

uint64_t session_n_blocks(const struct sending_key *sending) {
    return atomic_load_explicit(&sending->counter->n_blocks, memory_order_relaxed);
}

/* Before they are sealed: a successor counts no fewer. */
static void add_blocks(struct sending_key *sending, uint64_t n) {
    atomic_store_explicit(&sending->counter->n_blocks, session_n_blocks(sending) + n,
                          memory_order_relaxed);
}

bool session_may_seal(const struct sending_key *sending) {
    bool has_blocks = sending->aead != AEAD_AES_256_GCM ||
                      session_n_blocks(sending) <= AES_BLOCKS_MAX - count_blocks(MESSAGE_MAX);
    return has_blocks && session_next_counter(sending) < REJECT_AFTER_MESSAGES;
}

bool session_seal(struct sending_key *sending, struct message_outbound *message, size_t mtu) {
    if (!session_may_seal(sending))
        return false;
    if (message->is_bare)
        pad(message, mtu);
    return session_seal_from(sending, message->start, message);
}

bool session_seal_from(struct sending_key *sending, const uint8_t *content,
                       struct message_outbound *message) {
    if (!session_may_seal(sending) || !session_draw(sending, 1))
        return false;
    if (sending->aead == AEAD_AES_256_GCM)
        add_blocks(sending, count_blocks(message->length));
    uint64_t counter = sending->next++; /* used up, whatever happens from here on */
    if (seal_into(sending->key, counter, content, message->length, message->start) < 0)
        return false;
    message->start -= DATA_HEADER;
    message->length += DATA_HEADER + DATA_TAG;
    le32_write(message->start, data_type(sending->aead));
    le32_write(message->start + 4, sending->receiver_index);
    le64_write(message->start + 8, counter);
    return true;
}

/* -- opening ----------------------------------------------------------------------------------- */

bool session_is_data(const uint8_t *message, size_t length) {
    uint32_t type = length >= DATA_MESSAGE_MIN ? le32_read(message) : 0;
    return type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES;
}

bool session_is_handshake(const uint8_t *message, size_t length) {
    static const size_t lengths[] = {
        [MESSAGE_INITIATION] = INITIATION_SIZE,
        [MESSAGE_RESPONSE] = RESPONSE_SIZE,
        [MESSAGE_COOKIE] = COOKIE_REPLY_SIZE,
    };
    uint32_t type = length >= 4 ? le32_read(message) : 0;
    return type >= MESSAGE_INITIATION && type <= MESSAGE_COOKIE && length == lengths[type];
}

uint32_t session_receiver_index(const uint8_t *message) {
    return le32_read(message + 4);
}

static int open_with(struct aead_key *key, const uint8_t *message, size_t length,
                     uint8_t *content) {
    int opened = (int)open_into(key, le64_read(message + 8), message + DATA_HEADER,
                                length - DATA_HEADER, content);
    return opened < 0 ? OPEN_BAD_TAG : opened;
}

int session_open_again(struct receiving_key *receiving, const uint8_t *message, size_t length,
                       uint8_t *content) {
    struct aead_key *key = key_for(receiving, aead_of(message));
    return key == NULL ? OPEN_BAD_TYPE : open_with(key, message, length, content);
}

int session_open(struct receiving_key *receiving, const uint8_t *message, size_t length,
                 uint8_t *content) {
    uint64_t counter = le64_read(message + 8);
    struct aead_key *key = key_for(receiving, aead_of(message));
    if (key == NULL)
        return OPEN_BAD_TYPE;
    if (counter >= REJECT_AFTER_MESSAGES)
        return OPEN_REPLAYED;
    int opened = open_with(key, message, length, content);
    if (opened < 0)
        return opened;
    receiving->counter = counter;
    /* Only what is authentic may move the window. */
    if (!replay_accept(&receiving->replay, counter))
        return OPEN_REPLAYED;
    set_mark(receiving);
    return opened;
}
