#define _GNU_SOURCE
#include "inbound/datagram_batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

int datagram_batch_init(struct datagram_batch *batch) {
    *batch = (struct datagram_batch){0};
    batch->buffers = malloc((size_t)DATAGRAM_BUFFERS * DATAGRAM_BUFFER);
    return batch->buffers == NULL ? -ENOMEM : 0;
}

void datagram_batch_free(struct datagram_batch *batch) {
    free(batch->buffers);
}

/* The kernel overwrites the lengths at each call. */
static void prepare(struct datagram_batch *batch) {
    for (int i = 0; i < DATAGRAM_BUFFERS; i++) {
        batch->iov[i] =
            (struct iovec){batch->buffers + (size_t)i * DATAGRAM_BUFFER, DATAGRAM_BUFFER};
        batch->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->sources[i],
            .msg_namelen = sizeof batch->sources[i],
            .msg_iov = &batch->iov[i],
            .msg_iovlen = 1,
            .msg_control = batch->controls[i],
            .msg_controllen = sizeof batch->controls[i],
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

static void begin_buffer(struct datagram_batch *batch) {
    batch->offset = 0;
    if (!datagram_batch_has_more(batch))
        return;
    struct mmsghdr *header = &batch->headers[batch->at];
    udp_address_read(&batch->endpoint, batch->socket_index, &header->msg_hdr);
    batch->segment = segment_of(&header->msg_hdr, header->msg_len);
    batch->ecn = udp_address_read_class(&header->msg_hdr) & ECN_MASK;
}

int datagram_batch_receive(struct datagram_batch *batch, int fd, unsigned socket_index) {
    prepare(batch);
    int n = recvmmsg(fd, batch->headers, DATAGRAM_BUFFERS, MSG_DONTWAIT, NULL);
    batch->n = n > 0 ? n : 0;
    batch->at = 0;
    batch->socket_index = socket_index;
    begin_buffer(batch);
    return n < 0 ? -errno : n;
}

bool datagram_batch_peek(struct datagram_batch *batch, const uint8_t **bytes, size_t *length) {
    if (!datagram_batch_has_more(batch))
        return false;
    size_t left = batch->headers[batch->at].msg_len - batch->offset;
    *bytes = batch->buffers + (size_t)batch->at * DATAGRAM_BUFFER + batch->offset;
    *length = left < batch->segment ? left : batch->segment;
    return true;
}

void datagram_batch_advance(struct datagram_batch *batch) {
    batch->offset += batch->segment;
    if (batch->offset < batch->headers[batch->at].msg_len)
        return;
    batch->at++;
    begin_buffer(batch);
}
