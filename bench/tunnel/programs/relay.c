/* relay: the least that a tunnel in user space can do over TCP, as a measure of what the rest costs.
 *
 *     relay DEVICE listen|connect ADDRESS PORT
 *
 * A thread each way, both of which sleep in the kernel: super-packets whole, from the device to the
 * connection and back, nothing encrypted, counted, limited, checked or shared between processes:
 *
 *     0       4                14
 *     | length | virtio_net_hdr | packet |     length in the host's order, of what follows
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LENGTH = sizeof(uint32_t), FRAME_MAX = 10 + 65535, BUFFER = 512 * 1024 };

static int device, connection;

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *outwards(void *unused) {
    static uint8_t buffer[LENGTH + FRAME_MAX];
    for (;;) {
        ssize_t n = read(device, buffer + LENGTH, FRAME_MAX);
        if (n < 0)
            fail("read");
        uint32_t length = (uint32_t)n;
        memcpy(buffer, &length, LENGTH);
        for (size_t sent = 0; sent < LENGTH + length;) {
            ssize_t m = send(connection, buffer + sent, LENGTH + length - sent, MSG_NOSIGNAL);
            if (m < 0)
                fail("send");
            sent += (size_t)m;
        }
    }
    return unused;
}

static void *inwards(void *unused) {
    static uint8_t buffer[BUFFER];
    size_t held = 0;
    for (;;) {
        ssize_t n = recv(connection, buffer + held, BUFFER - held, 0);
        if (n <= 0)
            fail("recv");
        held += (size_t)n;
        size_t at = 0;
        uint32_t length;
        for (; held - at >= LENGTH; at += LENGTH + length) {
            memcpy(&length, buffer + at, LENGTH);
            if (length > FRAME_MAX)
                exit(1);
            if (held - at < LENGTH + length)
                break;
            if (write(device, buffer + at + LENGTH, length) < 0)
                perror("write"); /* a packet that the kernel does not want */
        }
        held -= at;
        memmove(buffer, buffer + at, held);
    }
    return unused;
}

static int open_device(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        fail("/dev/net/tun");
    return fd;
}

static int open_connection(const char *how, const char *address, const char *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || inet_pton(AF_INET, address, &at.sin_addr) != 1)
        fail(address);
    if (strcmp(how, "listen") == 0) {
        if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1) < 0)
            fail("listen");
        fd = accept(fd, NULL, NULL);
    } else if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        fail("connect");
    }
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("TCP");
    return fd;
}

int main(int n_arguments, char **arguments) {
    if (n_arguments != 5)
        return 2;
    device = open_device(arguments[1]);
    connection = open_connection(arguments[2], arguments[3], arguments[4]);
    pthread_t thread;
    if (pthread_create(&thread, NULL, outwards, NULL) != 0)
        fail("pthread_create");
    inwards(NULL);
    return 0;
}
