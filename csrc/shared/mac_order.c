#include "shared/mac_order.h"

enum { HEAD = 0 };

static unsigned follow(const _Atomic uint16_t *link) {
    unsigned to = atomic_load_explicit(link, memory_order_relaxed);
    return to <= MACS_PER_OWNER ? to : HEAD;
}

static void point(_Atomic uint16_t *link, unsigned to) {
    atomic_store_explicit(link, (uint16_t)to, memory_order_relaxed);
}

static unsigned link_of(uint32_t place) {
    return 1 + place % MACS_PER_OWNER;
}

static void insert_between(struct mac_order *order, unsigned older, unsigned at, unsigned newer) {
    point(&order->older[at], older);
    point(&order->newer[at], newer);
    point(&order->newer[older], at);
    point(&order->older[newer], at);
}

static void unlink_from(struct mac_order *order, unsigned at) {
    unsigned older = follow(&order->older[at]), newer = follow(&order->newer[at]);
    point(&order->newer[older], newer);
    point(&order->older[newer], older);
}

void mac_order_clear(struct mac_order *order) {
    point(&order->older[HEAD], HEAD);
    point(&order->newer[HEAD], HEAD);
}

void mac_order_add(struct mac_order *order, uint32_t place) {
    insert_between(order, follow(&order->older[HEAD]), link_of(place), HEAD);
}

void mac_order_renew(struct mac_order *order, uint32_t place) {
    if (follow(&order->older[HEAD]) == link_of(place))
        return;
    unlink_from(order, link_of(place));
    mac_order_add(order, place);
}

void mac_order_retire(struct mac_order *order, uint32_t place) {
    unlink_from(order, link_of(place));
    insert_between(order, HEAD, link_of(place), follow(&order->newer[HEAD]));
}

uint32_t mac_order_oldest(const struct mac_order *order) {
    unsigned oldest = follow(&order->newer[HEAD]);
    return oldest == HEAD ? 0 : oldest - 1;
}
