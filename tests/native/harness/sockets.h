/* sockets: pairs of them that stand for a link (SOCK_STREAM) or for a device (SOCK_SEQPACKET, where
 * one read or write is one frame, too). */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

/* [0] is the loop's end. `type` may have SOCK_NONBLOCK. */
static inline void pair_open(int pair[2], int type) {
    CHECK_EQUAL(socketpair(AF_UNIX, type, 0, pair), 0);
}

static inline void pair_close(const int pair[2]) {
    close(pair[0]);
    close(pair[1]);
}

/* 1: the least that the kernel has. */
static inline void set_send_buffer(int fd, int n_bytes) {
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n_bytes, sizeof n_bytes), 0);
}

#endif
