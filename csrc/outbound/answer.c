#define _GNU_SOURCE
#include "outbound/answer.h"

#include <unistd.h>

#include "packet/headers.h"
#include "packet/icmp.h"

/* The kernel's answer to a client that connects to us from a network that is routed to the device.
 * With "host unreachable" the kernel would forget the client at once. Without, it sends the answer
 * again, and the gateway has time to have routes make way for it (fastun/link/stream/half_open.py). */
static bool is_syn_ack(const struct frame *frame) {
    const uint8_t *packet = frame_packet(frame);
    struct ip_headers ip = ip_walk(packet, frame->length);
    return ip.protocol == PROTOCOL_TCP && !ip.is_later_fragment && ip.transport != 0 &&
           frame->length > ip.transport + TCP_FLAGS_OFFSET &&
           (packet[ip.transport + TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

bool answer_sender(struct tun_reader *reader, enum answer_kind kind, unsigned slot,
                   const struct frame *frame, size_t mtu) {
    uint8_t bytes[VNET_LENGTH + ICMP_ANSWER_MAX] = {0};
    uint8_t *icmp = bytes + VNET_LENGTH;
    const uint8_t *packet = frame_packet(frame);
    if (reader->loop.mode != MODE_TUN || (kind != ANSWER_TOO_BIG && is_syn_ack(frame)))
        return false;
    size_t length = kind == ANSWER_TOO_BIG
                        ? icmp_too_big(packet, frame->length, mtu, icmp, ICMP_ANSWER_MAX)
                        : icmp_unreachable(packet, frame->length, icmp, ICMP_ANSWER_MAX);
    if (length == 0 || !answer_limit_allows(&reader->answers, kind, packet,
                                            answer_origin(reader, frame), slot, clock_now_ns()))
        return false;
    if (write(reader->loop.device_fd, bytes, VNET_LENGTH + length) < 0)
        return false;
    stats_add(&reader->loop.stats->counters[COUNTER_answers], 1);
    return true;
}

int answer_origin(const struct tun_reader *reader, const struct frame *frame) {
    if (reader->loop.wire != WIRE_WIREGUARD || reader->loop.mode != MODE_TUN)
        return reader->origin;
    return allowedips_lookup_ip(reader->allowed_ips, frame_packet(frame), true);
}
