/* session: WireGuard's data messages, sealed and opened.
 *
 *     type u8 (4 ChaCha20-Poly1305, 5 AES-256-GCM), 3 zero bytes, receiver u32 LE, counter u64 LE,
 *     sealed content, tag[16]
 *
 * The content is padded to 16 bytes where it is a bare IP packet. No associated data; the nonce is
 * 4 zero bytes and the counter. Source: the WireGuard whitepaper 5.4.6; type 5 is fastun's own.
 *
 * A sending key is the tun-reader's and the gateway's, which seals control messages; both draw the
 * session's counters from one word (shared/sending_counters.h). A receiving key belongs to the
 * link-reader alone.
 */
#ifndef FASTUN_SESSION_SESSION_H
#define FASTUN_SESSION_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "keys.h"
#include "packet/encapsulation.h"
#include "session/aead.h"
#include "session/replay.h"
#include "shared/replay_marks.h"
#include "shared/sending_counters.h"

enum { N_AEADS = 2 };

/* AES-256-GCM seals at most this many blocks of 16 bytes under one key: an attacker's advantage
 * grows with the square of their number, and is below 2^-60 up to here. At 40 Gbit/s that takes
 * under a minute. Sealing stops one longest message before it; the gateway has started a handshake
 * long before that (REKEY_AFTER_BLOCKS in protocol.py). ChaCha20 has no such limit. */
#define AES_BLOCKS_MAX ((uint64_t)1 << 34)

enum { AES_BLOCK = 16 };

struct sending_key {
    struct aead_key *key;
    enum aead aead;
    uint32_t receiver_index;
    struct sending_counter *counter; /* where the session's counters are drawn, */
    uint64_t base;                   /* less this */
    uint64_t next, end;              /* those that are drawn and not used yet */
    uint64_t expires_ns;             /* CLOCK_BOOTTIME; no message is sealed from then on */
};

/* A session may have a key for each cipher; the counters and their window are the session's. A peer
 * uses one of those that it is offered, and AES's key is a kilobyte: so all but the first are made when
 * something comes under them. */
struct receiving_key {
    struct aead_key *keys[N_AEADS]; /* by enum aead; NULL: not offered, or not made yet: */
    struct secret *later[N_AEADS];  /* of which it is made then */
    uint32_t index;
    unsigned slot;
    uint64_t expires_ns;
    bool is_confirmed; /* something has opened under it, */
    bool is_reported;  /* and the gateway has heard of it, from this link-reader or before */
    bool is_outdated;  /* what comes under it does not say where the peer is */
    uint64_t counter;  /* of the last that did */
    struct replay replay;
    struct replay_mark *mark; /* for a successor; NULL: there is to be none */
};

void sending_key_free(struct sending_key *sending);
void receiving_key_free(struct receiving_key *receiving);
/* Offers a cipher, with its own key, in place of the one that it may have had. Returns 0 or -errno. */
int receiving_key_offer(struct receiving_key *receiving, enum aead aead,
                        const uint8_t key[AEAD_KEY_SIZE]);
/* No cipher is offered. */
bool receiving_key_is_empty(const struct receiving_key *receiving);
/* Counters under `counter` are used up. */
void receiving_key_use_up(struct receiving_key *receiving, uint64_t counter);

/* The length of a bare packet that is padded, but not beyond `mtu` bytes (0: no limit). */
size_t session_padded(size_t length, size_t mtu);
/* Goes on where the session is: another cipher of the same, or a successor of the tun-reader that was
 * killed. The peer has one replay window, and the limit of blocks is the session's. `before` is the
 * key that is replaced; NULL: there was none. */
void session_go_on(struct sending_key *sending, const struct sending_key *before);
/* The counter that is used next, unless the gateway draws it first. */
uint64_t session_next_counter(const struct sending_key *sending);
/* Blocks that were sealed under AES-256-GCM so far. */
uint64_t session_n_blocks(const struct sending_key *sending);
/* Whether one more message of any length may be sealed under the key. */
bool session_may_seal(const struct sending_key *sending);
/* Draws the counters of the next `n` messages, which follow one another, with one atomic add; without
 * it each message draws its own. What is left of those drawn before, because they were not sealed
 * after all, is used first, or if fewer than n not at all. false: the key is used up. */
bool session_draw(struct sending_key *sending, unsigned n);
/* Seals the message in place and puts the header in front; a bare packet is padded. false: the key is
 * used up. */
bool session_seal(struct sending_key *sending, struct message_outbound *message, size_t mtu);

/* The same of content elsewhere, apart from the message: sealed into message->start, as it is. */
bool session_seal_from(struct sending_key *sending, const uint8_t *content,
                       struct message_outbound *message);

/* Whether the length is that of a data message or of a handshake message. */
bool session_is_data(const uint8_t *message, size_t length);
bool session_is_handshake(const uint8_t *message, size_t length);
uint32_t session_receiver_index(const uint8_t *message);

enum open_fault { OPEN_BAD_TYPE = -1, OPEN_BAD_TAG = -2, OPEN_REPLAYED = -3 };

/* Opens a data message into `content` (length - DATA_MESSAGE_MIN bytes). Returns the content's
 * length, 0 for a keepalive, or an open_fault. */
int session_open(struct receiving_key *receiving, const uint8_t *message, size_t length,
                 uint8_t *content);

/* Opens one that session_open has accepted once more, to a place that no other process can write.
 * The same length; an open_fault if it does not open. */
int session_open_again(struct receiving_key *receiving, const uint8_t *message, size_t length,
                       uint8_t *content);

#endif
