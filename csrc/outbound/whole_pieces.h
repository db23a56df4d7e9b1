/* whole_pieces: a super-packet for a peer on UDP that joins pieces (packet/pieces.h): neither its
 * headers nor a checksum are made for every segment, here, and looked at there. Beside splitting.c.
 */
#ifndef FASTUN_OUTBOUND_WHOLE_PIECES_H
#define FASTUN_OUTBOUND_WHOLE_PIECES_H

#include "outbound/splitting.h"

/* Whether the frame, whose header is `vnet` and which gso_split_begin has looked at, goes in pieces, in
 * at most `n_max`; then it is prepared. */
bool whole_pieces_begin(struct tun_reader *reader, const struct tun_reader_link *link,
                        const struct vnet *vnet, const struct arrival *arrival, int n_max);
/* Puts as many of its pieces as one sendmsg can carry into the record. false: the key is used up. */
bool whole_pieces_fill(struct tun_reader *reader, struct tun_reader_link *link,
                       struct ring_record *record);

#endif
