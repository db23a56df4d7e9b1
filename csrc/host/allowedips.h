/* allowedips: which peer an inner address belongs to, by the longest prefix (cryptokey routing).
 *
 * A peer is named by its slot. IPv4 and IPv6 are apart. Private to one process and thread. Changes
 * hold from the next allowedips_settle() on, which sorts all prefixes (130,000: some 20 ms) when
 * there were any; a look-up allocates nothing and takes the same time wherever the address lies.
 */
#ifndef FASTUN_HOST_ALLOWEDIPS_H
#define FASTUN_HOST_ALLOWEDIPS_H

#include <stdbool.h>
#include <stdint.h>

struct allowedips;

enum { ALLOWEDIPS_SLOT_MAX = 65534 };

/* NULL with errno set on failure. */
struct allowedips *allowedips_new(void);
void allowedips_free(struct allowedips *allowedips);

/* `version` is 4 or 6, `address` 4 or 16 bytes in network order; bits behind `prefix_length` are
 * ignored. A prefix that is there already moves to the new slot, as in WireGuard. -EINVAL for a
 * version, length or slot that does not exist, -ENOMEM; nothing has changed then. */
int allowedips_insert(struct allowedips *allowedips, int version, const uint8_t *address,
                      unsigned prefix_length, uint16_t slot);
/* The prefix, where it is the peer's: one that has moved to another stays there. As insert. */
int allowedips_remove(struct allowedips *allowedips, int version, const uint8_t *address,
                      unsigned prefix_length, uint16_t slot);
/* All prefixes of the peer. */
void allowedips_remove_slot(struct allowedips *allowedips, uint16_t slot);
/* Before look-ups, after any number of changes; without a change it does nothing. */
void allowedips_settle(struct allowedips *allowedips);

/* The slot, or -ENOENT. */
int allowedips_lookup4(const struct allowedips *allowedips, const uint8_t address[4]);
int allowedips_lookup6(const struct allowedips *allowedips, const uint8_t address[16]);
/* By the packet's source or destination. The packet must be known to hold a whole IPv4 or IPv6
 * header. */
int allowedips_lookup_ip(const struct allowedips *allowedips, const uint8_t *packet, bool source);

#endif
