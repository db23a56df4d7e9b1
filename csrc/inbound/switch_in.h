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
 * kernel's whole receive and transmit path, and bring floods back to their sender.
 *
 * A peer on a stream waits for room in the hairpin while its frames are for another one on a stream,
 * as it waits for the device: so TCP inside fills the path without losses. What it waits for is the
 * tun-reader's processor, not the other peer's link, which has a queue of its own when it is full.
 * All sources wait meanwhile, so it is for a moment; was that in vain, as where what goes by UDP
 * blocks the link-writer, or two gateways wait for each other, a full hairpin drops for a while.
 * What comes by UDP never waits: it would be lost in the socket, with what others send there.
 */
#ifndef FASTUN_INBOUND_SWITCH_IN_H
#define FASTUN_INBOUND_SWITCH_IN_H

#include "inbound/link_reader.h"

enum {
    /* Addresses that come to a peer from another: whole networks fail over, and then rest. */
    MOVES_PER_SECOND = 10,
    MOVES_BURST = 256,
    /* In it the tun-reader seals the hairpin's content several times. Of waits in vain, it is what
     * they take of the time that others may have to bear: a tenth. */
    HAIRPIN_WAIT_NS = 10 * 1000 * 1000,
    HAIRPIN_REST_NS = 100 * 1000 * 1000,
};

struct switch_in {
    /* The limits of each peer, which outlive its sessions. */
    uint64_t floods_full_at_ns[N_PEER_SLOTS];
    uint64_t moves_full_at_ns[N_PEER_SLOTS];
    bool has_crossed[N_PEER_SLOTS]; /* the peer's last frame was for another one on a stream */
    bool is_waiting;                /* the next message needs room in the hairpin first */
    uint64_t rests_until_ns;        /* a wait was in vain: no other one before */
};

/* Whether the next message has to wait; then switch_in_wait, and again. */
bool switch_in_must_wait(struct link_reader *reader, const struct arrival *arrival);
enum wait_end switch_in_wait(struct link_reader *reader);

/* Has the frame been counted and goes to the device, too? Counts what it drops or sends elsewhere. */
bool switch_in_takes(struct link_reader *reader, unsigned slot,
                     const struct message_inbound *inbound, uint64_t now_ns);

#endif
