/* pieces_in: the link-reader's pieces, and what is put together of them.
 *
 * A long whole is put together in the ring, in the record that is reserved and not committed: each of
 * its messages is opened straight to its place there. Whatever else is to be opened, or goes into the
 * ring, makes it leave first (pieces_in_leave), to memory of its peer's.
 */
#ifndef FASTUN_INBOUND_PIECES_IN_H
#define FASTUN_INBOUND_PIECES_IN_H

#include "inbound/message_in.h"
#include "packet/pieces.h"

struct pieces_in {
    struct piece_room room; /* in the ring's next record */
    struct piece_table tables[N_PEER_SLOTS];
};

/* NULL: there is no memory. What is not used takes none. */
struct pieces_in *pieces_in_new(void);
void pieces_in_free(struct pieces_in *pieces);
/* The slot's peer leaves it: what waits is dropped. */
void pieces_in_forget(struct link_reader *reader, unsigned slot);

/* Where the message is opened if it may be the next piece of the whole in the ring; else NULL. */
uint8_t *pieces_in_place(struct link_reader *reader, const struct receiving_key *key,
                         const struct arrival *arrival, const uint8_t *message, size_t length);
/* It did not open. */
void pieces_in_refused(struct link_reader *reader);
/* The ring's next record is needed. */
void pieces_in_leave(struct link_reader *reader);
/* Takes what was opened if it is a piece; the whole goes on when all are there. false: it is none, and
 * lies at the record's front. */
bool pieces_in_take(struct link_reader *reader, const struct receiving_key *key,
                    struct opened *opened, const struct arrival *arrival);

#endif
