/* switch_in: a frame of a peer on a TAP device that has many: where it goes.
 *
 *   to the device          for this host, and what a bridge has behind it
 *   into the hairpin       for another peer; the tun-reader seals it for that one
 *   both                   broadcast, multicast, and addresses that are nowhere known
 *
 * Of what is for bridges themselves (mac_is_reserved) other peers get nothing: as with the kernel's
 * bridge (group_fwd_mask 0), only this host hears it. It never goes back to its sender. The source address is learned as the sender's, unless it is
 * this host's own or moves between peers too often.
 *
 * The tun-reader takes such frames as it takes the device's: it alone has the sending keys. Going
 * through the device instead, by the kernel's bridge (hairpin_mode), would take a bridge, cost the
 * kernel's whole receive and transmit path, and bring floods back to their sender. A full hairpin
 * drops: waiting for it would let two gateways wait for each other for ever.
 */
#ifndef FASTUN_INBOUND_SWITCH_IN_H
#define FASTUN_INBOUND_SWITCH_IN_H

#include "inbound/link_reader.h"

enum {
    /* Addresses that come to a peer from another: whole networks fail over, and then rest. */
    MOVES_PER_SECOND = 10,
    MOVES_BURST = 256,
};

/* The limits of each peer, which outlive its sessions. */
struct switch_in {
    uint64_t floods_full_at_ns[N_PEER_SLOTS];
    uint64_t moves_full_at_ns[N_PEER_SLOTS];
};

/* Has the frame been counted and goes to the device, too? Counts what it drops or sends elsewhere. */
bool switch_in_takes(struct link_reader *reader, unsigned slot,
                     const struct message_inbound *inbound, uint64_t now_ns);

#endif
