/* reach: the networks that one peer may send to, in a tunnel of IP packets.
 *
 * A list, since most have a handful; a trie of their own for each peer would cost more memory than
 * looking through it. Private to the link-reader, a slot each; NULL: everywhere.
 */
#ifndef FASTUN_INBOUND_REACH_H
#define FASTUN_INBOUND_REACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastun.h"

struct reach {
    unsigned n;
    struct reach_prefix {
        uint8_t address[16]; /* IPv4 in the first 4 */
        uint8_t address_length;
        uint8_t prefix_length;
    } prefixes[REACH_MAX];
};

/* Adds a prefix, making the list if there is none. Returns 0 or -errno. */
int reach_add(struct reach **reach, const uint8_t *address, size_t address_length,
              unsigned prefix_length);
/* Whether the destination of the packet, a whole IP header at least, is in it; not if its headers
 * name a way from there to others (RFC 791, RFC 8200 4.4), or cannot be read. */
bool reach_has(const struct reach *reach, const uint8_t *packet, size_t length_of_packet);
void reach_free(struct reach **reach);

#endif
