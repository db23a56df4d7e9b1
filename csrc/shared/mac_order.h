/* mac_order: one owner's places of the table of addresses, in the order in which they were last seen.
 *
 * A ring of links around a head, so that the place that was seen longest ago is found, and one that is
 * seen again moved, in a few steps, however many there are: every frame may do either. All zeros is
 * an order without places. It lies in shared memory, written by its owner's index's writer alone;
 * links that another process has spoilt lead to a wrong place at worst, never out of the table.
 */
#ifndef FASTUN_SHARED_MAC_ORDER_H
#define FASTUN_SHARED_MAC_ORDER_H

#include <stdatomic.h>
#include <stdint.h>

enum { MACS_PER_OWNER = 1024 };

/* A link is a place's number + 1, or 0: the head. */
struct mac_order {
    _Atomic uint16_t older[1 + MACS_PER_OWNER];
    _Atomic uint16_t newer[1 + MACS_PER_OWNER];
};

/* Forgets all places. */
void mac_order_clear(struct mac_order *order);
/* The place is new, and was seen last. */
void mac_order_add(struct mac_order *order, uint32_t place);
/* The place was seen again, and last of all; or its address has gone, so that it is the next to be
 * given away. It is in the order. */
void mac_order_renew(struct mac_order *order, uint32_t place);
void mac_order_retire(struct mac_order *order, uint32_t place);
/* The place that was seen longest ago; 0 if there is none. */
uint32_t mac_order_oldest(const struct mac_order *order);

#endif
