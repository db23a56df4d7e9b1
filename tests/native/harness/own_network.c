#define _GNU_SOURCE
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

bool own_network_enter(void) {
    if (unshare(CLONE_NEWNET) == 0 && access("/dev/net/tun", R_OK | W_OK) == 0)
        return true;
    printf("  skip  needs a network namespace of its own (root) and /dev/net/tun\n");
    return false;
}

int own_network_device(const char *name, enum mode mode) {
    struct ifreq request = {.ifr_flags = IFF_UP};
    int fd = device_open(name, mode), control = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0);
    memcpy(request.ifr_name, name, strlen(name));
    CHECK_EQUAL(ioctl(control, SIOCSIFFLAGS, &request), 0);
    close(control);
    return fd;
}

int own_network_tun(const char *name) {
    struct ifreq request = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a090001)};
    struct in6_ifreq request6 = {.ifr6_addr.s6_addr = {0xfd, 9, [15] = 1}, .ifr6_prefixlen = 64};
    int device = own_network_device(name, MODE_TUN);
    int ipv4 = socket(AF_INET, SOCK_DGRAM, 0), ipv6 = socket(AF_INET6, SOCK_DGRAM, 0);
    memcpy(request.ifr_name, name, strlen(name));
    memcpy(&request.ifr_addr, &address, sizeof address);
    CHECK_EQUAL(ioctl(ipv4, SIOCSIFADDR, &request), 0);
    address.sin_addr.s_addr = htonl(0xffffff00);
    memcpy(&request.ifr_netmask, &address, sizeof address);
    CHECK_EQUAL(ioctl(ipv4, SIOCSIFNETMASK, &request), 0);
    request6.ifr6_ifindex = (int)if_nametoindex(name);
    CHECK_EQUAL(ioctl(ipv6, SIOCSIFADDR, &request6), 0);
    close(ipv4);
    close(ipv6);
    return device;
}
