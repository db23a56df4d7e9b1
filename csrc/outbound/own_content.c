/* What the gateway has the tun-reader send: keepalives and control messages, in the session. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "outbound/frame.h"
#include "outbound/splitting.h"

int frame_send_content(struct tun_reader *reader, unsigned slot, const uint8_t *content,
                       size_t length) {
    struct loop *loop = &reader->loop;
    struct tun_reader_link *link = reader->links[slot];
    struct arrival arrival = {(int)slot, NULL, clock_now_ns(), clock_boottime_ns(), ECN_NOT_ECT};
    if (splitting_is_underway(reader->splitting) ||
        !frame_link_is_open(reader, link, arrival.boottime_ns))
        return -EAGAIN;
    struct ring_record *record = ring_reserve(loop->ring, FRAME_SPACE);
    if (record == NULL || loop->wire != WIRE_WIREGUARD)
        return -EAGAIN;
    struct message_outbound message = {.start = (uint8_t *)record + FRAME_OFFSET, .length = length};
    if (length > 0)
        memcpy(message.start, content, length);
    if (!frame_seal(reader, link, slot, &message))
        return -EAGAIN;
    frame_mark_sent(reader, &arrival, false);
    frame_commit(reader, record, &arrival, &message, 0, SEGMENT_WHOLE);
    ring_publish(loop->ring, loop->stats);
    return 0;
}
