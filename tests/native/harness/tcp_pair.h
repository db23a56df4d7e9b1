/* tcp_pair: a TCP connection over loopback, for what only TCP does (sockets.h has other pairs). */
#ifndef TCP_PAIR_H
#define TCP_PAIR_H

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

/* Neither end blocks; [0] sends without waiting for more, as all of fastun's streams. Bytes of a
 * segment, and of the receive buffer of [1]; 0: as the kernel has them. */
static inline void tcp_pair_open(int pair[2], int segment, int receive_buffer) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), is_on = 1, to = receive_buffer;
    if (receive_buffer != 0)
        CHECK_EQUAL(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &to, sizeof to), 0);
    CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQUAL(listen(listener, 1), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (segment != 0)
        CHECK_EQUAL(setsockopt(pair[0], IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment), 0);
    CHECK_EQUAL(setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &is_on, sizeof is_on), 0);
    CHECK_EQUAL(connect(pair[0], (struct sockaddr *)&address, sizeof address), 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    CHECK(pair[1] >= 0);
    CHECK_EQUAL(ioctl(pair[0], FIONBIO, &is_on), 0);
    close(listener);
}

#endif
