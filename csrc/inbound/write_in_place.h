/* write_in_place: the tun-writer's step, done by the link-reader where that is cheaper than waking it. */
#ifndef FASTUN_INBOUND_WRITE_IN_PLACE_H
#define FASTUN_INBOUND_WRITE_IN_PLACE_H

#include "inbound/link_reader.h"

/* Publishes what is in the inbound ring; writes it to the device if the tun-writer sleeps and it is
 * little. */
void write_in_place_publish(struct link_reader *reader);

#endif
