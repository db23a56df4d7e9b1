#define _GNU_SOURCE
#include "inbound/datagram_batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

int datagrams_init(struct datagrams *datagrams) {
    *datagrams = (struct datagrams){0};
    datagrams->buffers = malloc((size_t)DATAGRAM_BUFFERS * DATAGRAM_BUFFER);
    return datagrams->buffers == NULL ? -ENOMEM : 0;
}

void datagrams_free(struct datagrams *datagrams) {
    free(datagrams->buffers);
}

/* The kernel overwrites the lengths at each call. */
static void prepare(struct datagrams *datagrams) {
    for (int i = 0; i < DATAGRAM_BUFFERS; i++) {
        datagrams->iov[i] =
            (struct iovec){datagrams->buffers + (size_t)i * DATAGRAM_BUFFER, DATAGRAM_BUFFER};
        datagrams->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &datagrams->sources[i],
            .msg_namelen = sizeof datagrams->sources[i],
            .msg_iov = &datagrams->iov[i],
            .msg_iovlen = 1,
            .msg_control = datagrams->controls[i],
            .msg_controllen = sizeof datagrams->controls[i],
        };
    }
}

/* The length of the buffer's datagrams but the last; all of it when there is only one. */
static size_t segment_of(struct msghdr *message, size_t length) {
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control)) {
        int segment = 0;
        if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO)
            continue;
        memcpy(&segment, CMSG_DATA(control), sizeof segment);
        if (segment > 0)
            return (size_t)segment;
    }
    return length > 0 ? length : 1;
}

static void begin_buffer(struct datagrams *datagrams) {
    datagrams->offset = 0;
    if (!datagrams_are_left(datagrams))
        return;
    struct mmsghdr *header = &datagrams->headers[datagrams->at];
    udp_address_read(&datagrams->endpoint, datagrams->socket_index, &header->msg_hdr);
    datagrams->segment = segment_of(&header->msg_hdr, header->msg_len);
}

int datagrams_receive(struct datagrams *datagrams, int fd, unsigned socket_index) {
    prepare(datagrams);
    int n = recvmmsg(fd, datagrams->headers, DATAGRAM_BUFFERS, MSG_DONTWAIT, NULL);
    datagrams->n = n > 0 ? n : 0;
    datagrams->at = 0;
    datagrams->socket_index = socket_index;
    begin_buffer(datagrams);
    return n < 0 ? -errno : n;
}

bool datagrams_peek(struct datagrams *datagrams, const uint8_t **bytes, size_t *length) {
    if (!datagrams_are_left(datagrams))
        return false;
    size_t left = datagrams->headers[datagrams->at].msg_len - datagrams->offset;
    *bytes = datagrams->buffers + (size_t)datagrams->at * DATAGRAM_BUFFER + datagrams->offset;
    *length = left < datagrams->segment ? left : datagrams->segment;
    return true;
}

void datagrams_advance(struct datagrams *datagrams) {
    datagrams->offset += datagrams->segment;
    if (datagrams->offset < datagrams->headers[datagrams->at].msg_len)
        return;
    datagrams->at++;
    begin_buffer(datagrams);
}
