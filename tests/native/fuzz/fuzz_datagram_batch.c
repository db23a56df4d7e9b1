/* Any answer of recvmmsg: each datagram of it is taken once, inside its buffer, with its sender.
 * Input: buffers, each `length u16, segment u32, what u8, source`. */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "fuzz.h"
#include "inbound/datagram_batch.h"
#include "packet/byteorder.h"

enum { LEAD = 7, SOURCE = sizeof(struct sockaddr_in6) };

static struct datagram_batch batch;
static const uint8_t *input;
static size_t n_left;

static void append_info(struct msghdr *message, uint8_t what) {
    struct in6_pktinfo info6 = {.ipi6_ifindex = what};
    struct in_pktinfo info4 = {.ipi_ifindex = what, .ipi_spec_dst = {what}};
    int traffic_class = what;
    if ((what & 1) != 0)
        control_append(message, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof info6);
    if ((what & 2) != 0)
        control_append(message, IPPROTO_IP, IP_PKTINFO, &info4, sizeof info4);
    if ((what & 4) != 0)
        control_append(message, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof traffic_class);
}

/* Fills one buffer as the input says; false: there is no more. */
static bool fill(struct mmsghdr *header) {
    struct msghdr *message = &header->msg_hdr;
    if (n_left < LEAD)
        return false;
    size_t n_source = n_left - LEAD < SOURCE ? n_left - LEAD : SOURCE;
    int segment = (int)le32_read(input + 2);
    header->msg_len = le16_read(input);
    memcpy(message->msg_name, input + LEAD, n_source);
    message->msg_namelen = (socklen_t)n_source;
    message->msg_controllen = 0;
    append_info(message, input[6]);
    if ((input[6] & 8) != 0)
        control_append(message, IPPROTO_UDP, 104 /* UDP_GRO */, &segment, sizeof segment);
    input += LEAD + n_source;
    n_left -= LEAD + n_source;
    return true;
}

/* In the place of the C library's. */
int recvmmsg(int fd, struct mmsghdr *headers, unsigned n, int flags, struct timespec *timeout) {
    (void)fd, (void)flags, (void)timeout;
    unsigned n_filled = 0;
    while (n_filled < n && fill(&headers[n_filled]))
        n_filled++;
    return (int)n_filled;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *bytes;
    size_t length, n_bytes = 0, n_expected = 0;
    if (batch.buffers == NULL)
        FUZZ_CHECK(datagram_batch_init(&batch) == 0);
    input = data, n_left = size;
    int n = datagram_batch_receive(&batch, 0, 3);
    for (int i = 0; i < n; i++)
        n_expected += batch.headers[i].msg_len;
    while (datagram_batch_peek(&batch, &bytes, &length)) {
        const uint8_t *buffer = batch.buffers + (size_t)batch.at * DATAGRAM_BUFFER;
        FUZZ_CHECK(bytes >= buffer && bytes + length <= buffer + batch.headers[batch.at].msg_len);
        FUZZ_CHECK(batch.endpoint.socket_index == 3);
        FUZZ_CHECK(length > 0 || batch.headers[batch.at].msg_len == 0);
        n_bytes += length;
        datagram_batch_advance(&batch);
    }
    FUZZ_CHECK(n_bytes == n_expected);
    return 0;
}
