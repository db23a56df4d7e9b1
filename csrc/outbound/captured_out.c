#define _GNU_SOURCE
#include "outbound/captured_out.h"

#include "packet/byteorder.h"

/* -- of the device ----------------------------------------------------------------------------- */

size_t captured_forward(struct tun_reader *reader, struct ring_record *record, size_t read_length,
                        struct arrival *arrival) {
    struct capture *capture = reader->loop.capture;
    struct captured what = {CAPTURE_DEVICE, false, CAPTURED_OF_NONE, NULL};
    arrival->slot = CAPTURED_OF_NONE;
    capture_frame(capture, &what, frame_target(reader, record) + VNET_LENGTH,
                  read_length - VNET_LENGTH);
    size_t n_bytes = frame_forward(reader, record, read_length, arrival);
    capture_of_peer(capture, arrival->slot);
    capture_end(capture);
    capture_publish(capture);
    return n_bytes;
}

static void show(struct capture *capture, const struct captured *what, const uint8_t *bytes,
                 size_t length, enum stats_drop reason) {
    capture_frame(capture, what, bytes, length);
    capture_drop(capture, reason);
    capture_end(capture);
}

void captured_waited(struct tun_reader *reader, unsigned slot, const struct frame *frame) {
    struct capture *capture = reader->loop.capture;
    struct captured what = {CAPTURE_DEVICE, false, (int)slot, NULL};
    if (capture == NULL)
        return;
    show(capture, &what, frame_packet(frame), frame->length, DROP_tun_reader_no_session);
    capture_publish(capture);
}

/* -- on the link ------------------------------------------------------------------------------- */

/* Each behind its length, as on the stream. */
static void show_stream(struct capture *capture, const struct captured *what, const uint8_t *bytes,
                        size_t length, enum stats_drop reason) {
    while (length > STREAM_LENGTH_PREFIX) {
        size_t message = be16_read(bytes);
        if (message > length - STREAM_LENGTH_PREFIX)
            message = length - STREAM_LENGTH_PREFIX;
        show(capture, what, bytes + STREAM_LENGTH_PREFIX, message, reason);
        bytes += STREAM_LENGTH_PREFIX + message;
        length -= STREAM_LENGTH_PREFIX + message;
    }
}

static void show_record(struct link_writer *writer, const struct writer_link *link,
                        const struct ring_view *record, enum stats_drop reason) {
    struct capture *capture = writer->loop.capture;
    bool is_datagram = link != NULL && link->format.is_datagram;
    struct captured what = {CAPTURE_SEALED, false, (int)record->slot,
                            is_datagram ? &link->endpoint : NULL};
    size_t segment = record->segment == SEGMENT_WHOLE || record->segment == SEGMENT_FRAGMENTS
                         ? record->length
                         : record->segment;
    if (!is_datagram) {
        show_stream(capture, &what, record->payload, record->length, reason);
        return;
    }
    for (size_t done = 0; done < record->length; done += segment) {
        size_t left = record->length - done;
        show(capture, &what, record->payload + done, left < segment ? left : segment, reason);
    }
}

static const struct writer_link *link_of(const struct link_writer *writer, unsigned slot) {
    return slot < N_PEER_SLOTS ? writer->links[slot] : NULL;
}

void captured_record(struct link_writer *writer, const struct ring_view *record,
                     enum stats_drop reason) {
    if (writer->loop.capture == NULL)
        return;
    show_record(writer, link_of(writer, record->slot), record, reason);
    capture_publish(writer->loop.capture);
}

void captured_message(struct link_writer *writer, unsigned slot, const uint8_t *message,
                      size_t length) {
    struct ring_view view = {
        .payload = (uint8_t *)(uintptr_t)message, .length = (uint32_t)length, .slot = slot};
    captured_record(writer, &view, N_DROPS);
}

void captured_drop(struct link_writer *writer, const struct ring_view *record,
                   enum stats_drop reason) {
    captured_record(writer, record, reason);
    link_writer_dropped(writer, record->slot, reason, record->n_packets);
}
