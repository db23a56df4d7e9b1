#define _GNU_SOURCE
#include "worker/capture_command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "inbound/link_reader.h"
#include "outbound/link_writer.h"

static uint16_t port_of(int fd) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
}

void capture_note_ports(struct loop *loop) {
    const struct loop_socket *sockets = NULL;
    if (loop->role == ROLE_link_reader)
        sockets = link_reader_of(loop)->sockets;
    else if (loop->role == ROLE_link_writer)
        sockets = link_writer_of(loop)->sockets;
    for (unsigned i = 0; loop->capture != NULL && sockets != NULL && i < N_SOCKETS; i++)
        loop->capture->local_ports[i] = port_of(sockets[i].fd);
}

int loop_capture(struct loop *loop, struct ring *ring, unsigned stages, int slot,
                 size_t snap_length) {
    capture_free(loop->capture);
    loop->capture = NULL;
    if (ring == NULL)
        return 0;
    if (snap_length > CAPTURE_SNAP_MAX || stages >> N_CAPTURE_STAGES != 0)
        return -EINVAL;
    loop->capture = capture_new(ring, loop->stats, stages, slot, snap_length);
    if (loop->capture == NULL)
        return -ENOMEM;
    capture_note_ports(loop);
    return 0;
}
