#define _GNU_SOURCE
#include "host/device.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const unsigned tun_offloads[] = {
    [DEVICE_OFFLOAD_NONE] = 0,
    [DEVICE_OFFLOAD_TCP] = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
#ifndef TUN_F_USO4 /* headers before Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
    [DEVICE_OFFLOAD_TCP_UDP] =
        TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
};

static int attach_interface(int fd, const char *name, enum mode mode, short flags) {
    struct ifreq request = {.ifr_flags = (short)(IFF_NO_PI | IFF_VNET_HDR | flags)};
    int vnet_length = VNET_LENGTH, little_endian = 1;
    request.ifr_flags |= mode == MODE_TAP ? IFF_TAP : IFF_TUN;
    memcpy(request.ifr_name, name, strlen(name));
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &vnet_length) < 0 ||
        ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
        return -errno;
    return 0;
}

static int open_queue(const char *name, enum mode mode, short flags) {
    if (strlen(name) >= IFNAMSIZ)
        return -ENAMETOOLONG;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int error = attach_interface(fd, name, mode, flags);
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

int device_open(const char *name, enum mode mode) {
    return open_queue(name, mode, 0);
}

int device_open_queue(const char *name, enum mode mode) {
    return open_queue(name, mode, IFF_MULTI_QUEUE);
}

int device_set_offload(int fd, enum device_offload offload) {
    /* Changes only what the kernel hands out on read; super-packets can always be written. */
    return ioctl(fd, TUNSETOFFLOAD, (unsigned long)tun_offloads[offload]) < 0 ? -errno : 0;
}
