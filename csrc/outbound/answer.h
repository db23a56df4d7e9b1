/* answer: an ICMP error to the sender of a packet that was dropped, so that it does not have to
 * wait for a timeout. Belongs to the tun-reader, which writes it to the device. */
#ifndef FASTUN_OUTBOUND_ANSWER_H
#define FASTUN_OUTBOUND_ANSWER_H

#include "outbound/frame.h"

/* `slot` is that of the destination's peer, `mtu` is for "too big". false: no answer was sent,
 * because none is allowed or a limit was reached (answer_limit.h). */
bool answer_sender(struct tun_reader *reader, enum answer_kind kind, unsigned slot,
                   const struct frame *frame, size_t mtu);
/* The slot of the sender's peer; -1: our own side, also where there are no allowed IPs. */
int answer_origin(const struct tun_reader *reader, const struct frame *frame);

#endif
