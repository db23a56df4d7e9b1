/* mac_key: an Ethernet address with the id of its VLAN, as one word.
 *
 *     bit 63: set, so that no key is 0     bits 48..59: VLAN id, 0 untagged     bits 0..47: address
 *
 * The VLAN is that of the outer tag. Source: IEEE 802.1Q.
 */
#ifndef FASTUN_PACKET_MAC_KEY_H
#define FASTUN_PACKET_MAC_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet/byteorder.h"
#include "packet/headers.h"

static inline uint64_t mac_key_of(const uint8_t address[MAC_SIZE], unsigned vlan) {
    uint64_t key = (uint64_t)1 << 63 | (uint64_t)vlan << 48;
    return key | (uint64_t)be16_read(address) << 32 | (uint64_t)be16_read(address + 2) << 16 |
           be16_read(address + 4);
}

static inline uint64_t mac_key_without_vlan(uint64_t key) {
    return key & ~((uint64_t)VLAN_ID_MASK << 48);
}

static inline bool mac_is_group(const uint8_t address[MAC_SIZE]) {
    return (address[0] & MAC_GROUP_BIT) != 0;
}

/* 01:80:c2:00:00:00 to 0f: for the bridge that receives it, as spanning tree, PAUSE, LACP and LLDP
 * (IEEE 802.1D 7.12.6, 802.1Q 8.6.3). */
static inline bool mac_is_reserved(const uint8_t address[MAC_SIZE]) {
    return be16_read(address) == 0x0180 && be16_read(address + 2) == 0xc200 &&
           (be16_read(address + 4) & ~0xfu) == 0;
}

/* 0: the frame is not tagged. `length` is at least ETHERNET_HEADER_SIZE. */
static inline unsigned frame_vlan(const uint8_t *frame, size_t length) {
    unsigned type = be16_read(frame + ETHERNET_HEADER_SIZE - ETHERNET_TYPE_SIZE);
    if ((type != ETHERNET_TYPE_VLAN && type != ETHERNET_TYPE_SERVICE_VLAN) ||
        length < VLAN_ID_OFFSET + 2)
        return 0;
    return be16_read(frame + VLAN_ID_OFFSET) & VLAN_ID_MASK;
}

#endif
