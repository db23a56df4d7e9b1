/* device: the TUN or TAP interface, as a file descriptor.
 *
 * Every read and every write is one frame: virtio_net_hdr[12] and behind it an IP packet (TUN) or
 * an Ethernet frame (TAP). The descriptor is O_NONBLOCK; reader and writer share one open file.
 * Source: Documentation/networking/tuntap.rst, drivers/net/tun.c.
 */
#ifndef FASTUN_HOST_DEVICE_H
#define FASTUN_HOST_DEVICE_H

#include "packet/encapsulation.h"

enum {
    /* The longest read: gso_max_size bounds what the kernel builds to 65000 bytes; this also holds
     * whatever a device with other settings might give, since a short buffer truncates silently. */
    DEVICE_FRAME_MAX = 65535 + ETHERNET_HEADER_SIZE + VLAN_TAGS_MAX * VLAN_TAG_SIZE,
};

#endif
