/* The tun-writer with packets of one flow in its ring, before a stand-in of the device: a socket
 * pair, where one write is one frame too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "inbound/tun_writer.h"
#include "check.h"
#include "flow_writer.h"
#include "sockets.h"
#include "splitter.h"

struct stand_in {
    struct writer writer;
    int far[2];
};

static void stand_in_open(struct stand_in *stand_in, enum mode mode) {
    pair_open(stand_in->far, SOCK_SEQPACKET);
    writer_open(&stand_in->writer, mode, stand_in->far[0]);
}

static void stand_in_close(struct stand_in *stand_in) {
    writer_close(&stand_in->writer);
    pair_close(stand_in->far);
}

/* Reads a frame and returns the number of packets that it splits into, 1 for a plain one. */
static size_t read_frame(struct stand_in *stand_in) {
    static uint8_t frame[VNET_LENGTH + 65536], packet[FLOW_PACKET_MAX];
    ssize_t length = recv(stand_in->far[1], frame, sizeof frame, MSG_DONTWAIT);
    size_t n = 0;
    CHECK(length > VNET_LENGTH);
    if (frame[1] == VNET_GSO_NONE)
        return 1;
    if (stand_in->writer.mode == MODE_TAP) {
        struct vnet vnet = vnet_read(frame);
        CHECK_EQUAL(frame[VNET_LENGTH + 11], stand_in->writer.source);
        CHECK(vnet_check(&vnet, frame + VNET_LENGTH, (size_t)length - VNET_LENGTH, FLOW_ETHERNET) >
              1);
        CHECK_EQUAL(vnet.hdr_len, vnet_read(frame).hdr_len);
        vnet.hdr_len = (uint16_t)(vnet.hdr_len - FLOW_ETHERNET);
        vnet.csum_start = (uint16_t)(vnet.csum_start - FLOW_ETHERNET);
        vnet_write(&vnet, frame);
        length -= FLOW_ETHERNET;
        memmove(frame + VNET_LENGTH, frame + VNET_LENGTH + FLOW_ETHERNET,
                (size_t)length - VNET_LENGTH);
    }
    CHECK(split_fault(frame, (size_t)length) == NULL);
    while (split_packet(frame, (size_t)length, n, 1, packet) != 0)
        n++;
    return n;
}

static void packets_of_one_flow_in_the_ring_are_one_write_and_count_as_many(void) {
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    stand_in_open(&stand_in, MODE_TUN);
    size_t n_bytes = writer_put_flow(&stand_in.writer, &flow, 0, 20, -1);
    writer_run(&stand_in.writer);
    CHECK_EQUAL(read_frame(&stand_in), 20);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), 1);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), 0);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_packets), 20);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_frames), 1);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_bytes), n_bytes);
    stand_in_close(&stand_in);
}

static void frames_of_one_flow_are_one_frame_with_their_ethernet_header(void) {
    for (int version = 4; version <= 6; version += 2)
        for (uint8_t protocol = SPLIT_TCP; protocol <= SPLIT_UDP;
             protocol += SPLIT_UDP - SPLIT_TCP) {
            struct stand_in stand_in;
            struct flow flow = {version, protocol, 0, 0, 0};
            stand_in_open(&stand_in, MODE_TAP);
            stand_in.writer.source = 7;
            writer_put_flow(&stand_in.writer, &flow, 0, 20, 12);
            writer_run(&stand_in.writer);
            CHECK_EQUAL(read_frame(&stand_in), 12);
            CHECK_EQUAL(read_frame(&stand_in), 1); /* its checksum is wrong */
            CHECK_EQUAL(read_frame(&stand_in), 7);
            CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_packets), 20);
            stand_in_close(&stand_in);
        }
}

static void frames_with_another_ethernet_header_or_a_tag_are_not_put_together(void) {
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    uint8_t packet[4 + FLOW_PACKET_MAX];
    stand_in_open(&stand_in, MODE_TAP);
    for (int i = 0; i < 4; i++) {
        stand_in.writer.source = (uint8_t)(i % 2);
        writer_put_flow(&stand_in.writer, &flow, i, 1, -1);
    }
    for (int i = 0; i < 4; i++) { /* the tag's type is where a packet's would be */
        size_t length = flow_packet(&flow, FLOW_ACK, FLOW_PAYLOAD, i, packet + 4);
        memcpy(packet, (uint8_t[4]){0, 7, 0x08, 0x00}, 4);
        uint8_t *vnet = writer_put(&stand_in.writer, packet, length + 4);
        memcpy(vnet + VNET_LENGTH + 12, (uint8_t[2]){0x81, 0x00}, 2);
    }
    writer_run(&stand_in.writer);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), 8);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), 0);
    stand_in_close(&stand_in);
}

static void a_packet_with_a_wrong_checksum_is_written_alone_and_as_it_came(void) {
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_UDP, 0, 0, 0};
    stand_in_open(&stand_in, MODE_TUN);
    writer_put_flow(&stand_in.writer, &flow, 0, 10, 5);
    writer_run(&stand_in.writer);
    CHECK_EQUAL(read_frame(&stand_in), 5);
    CHECK_EQUAL(read_frame(&stand_in), 1);
    CHECK_EQUAL(read_frame(&stand_in), 4);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_packets), 10);
    stand_in_close(&stand_in);
}

static void what_is_not_asked_for_is_not_put_together(void) {
    const struct {
        enum mode mode;
        enum device_offload coalesce;
        int n_writev;
    } cases[] = {{MODE_TUN, DEVICE_OFFLOAD_NONE, 0},
                 {MODE_TUN, DEVICE_OFFLOAD_TCP, 1},
                 {MODE_TUN, DEVICE_OFFLOAD_TCP_UDP, 2},
                 {MODE_TAP, DEVICE_OFFLOAD_NONE, 0},
                 {MODE_TAP, DEVICE_OFFLOAD_TCP_UDP, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct stand_in stand_in;
        struct flow tcp = {6, SPLIT_TCP, 0, 0, 0}, udp = {6, SPLIT_UDP, 0, 0, 0};
        stand_in_open(&stand_in, cases[i].mode);
        loop_coalesce(stand_in.writer.worker.loop, cases[i].coalesce);
        writer_put_flow(&stand_in.writer, &tcp, 0, 10, -1);
        writer_put_flow(&stand_in.writer, &udp, 0, 10, -1);
        writer_run(&stand_in.writer);
        CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), cases[i].n_writev);
        CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), 20 - 10 * cases[i].n_writev);
        CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_packets), 20);
        stand_in_close(&stand_in);
    }
}

/* Super-packets of the peer's, and packets whose checksum is still open, stand between. */
static void a_frame_with_an_offload_header_goes_as_it_is(void) {
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    uint8_t packet[FLOW_PACKET_MAX];
    stand_in_open(&stand_in, MODE_TUN);
    writer_put_flow(&stand_in.writer, &flow, 0, 3, -1);
    size_t length = flow_packet(&flow, FLOW_ACK, FLOW_PAYLOAD, 3, packet);
    writer_put(&stand_in.writer, packet, length)[0] = VNET_NEEDS_CSUM;
    writer_put_flow(&stand_in.writer, &flow, 4, 3, -1);
    writer_run(&stand_in.writer);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), 2);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), 1);
    CHECK_EQUAL(read_frame(&stand_in), 3);
    CHECK_EQUAL(read_frame(&stand_in), 1);
    CHECK_EQUAL(read_frame(&stand_in), 3);
    stand_in_close(&stand_in);
}

static void check_event(struct stand_in *stand_in, enum refusal_kind kind, int error) {
    const struct loop_event *event = loop_event(stand_in->writer.worker.loop);
    CHECK_EQUAL(event->kind, EVENT_REFUSAL);
    CHECK_EQUAL(event->slot, 0);
    CHECK_EQUAL(event->index, kind);
    CHECK_EQUAL(event->error, error);
}

/* A socket refuses what is longer than its send buffer, as some kernels refuse super-packets. */
static void refused_super_packets_are_written_packet_by_packet_and_soon_no_more_are_made(void) {
    enum { N_RUNS = 12, N_REFUSALS = 8, N_EACH = 20, SEND_BUFFER = 8192 };
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    uint8_t frame[VNET_LENGTH + FLOW_PACKET_MAX];
    int size = SEND_BUFFER / 2; /* the kernel doubles it */
    stand_in_open(&stand_in, MODE_TUN);
    set_send_buffer(stand_in.far[0], size);
    for (int i = 0; i < N_RUNS; i++) {
        flow.acknowledgement++;
        writer_put_flow(&stand_in.writer, &flow, i * N_EACH, N_EACH, -1);
    }
    lane_publish(&stand_in.writer.lane);
    worker_start(&stand_in.writer.worker);
    for (int i = 0; i < N_RUNS * N_EACH; i++) {
        CHECK_EQUAL(read(stand_in.far[1], frame, sizeof frame), VNET_LENGTH + 40 + FLOW_PAYLOAD);
        CHECK_EQUAL(frame[VNET_LENGTH + 40], (uint8_t)i);
    }
    CHECK_EQUAL(worker_join(&stand_in.writer.worker), LOOP_EVENT);
    check_event(&stand_in, REFUSED_TCP_GROUPS, EMSGSIZE);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), N_REFUSALS);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), N_RUNS * N_EACH);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_refused_offloads), N_REFUSALS);
    CHECK_EQUAL(writer_counter(&stand_in.writer, COUNTER_packets), N_RUNS * N_EACH);
    CHECK_EQUAL(stats_read_drop(stand_in.writer.lane.stats, DROP_tun_writer_device_refused), 0);
    stand_in_close(&stand_in);
}

/* The next packet of a flow, from the peer at `slot`. */
static void put_from(struct stand_in *stand_in, struct flow *flow, unsigned slot) {
    uint8_t packet[FLOW_PACKET_MAX];
    size_t length = flow_packet(flow, FLOW_ACK, FLOW_PAYLOAD, 0, packet);
    uint8_t *vnet = writer_put(&stand_in->writer, packet, length);
    struct ring_record *record = (struct ring_record *)(void *)(vnet - sizeof *record);
    CHECK(ring_payload(record) == vnet);
    record->slot = slot;
}

/* Two packets of one flow from the peer at `slot`. Returns the writes that they took singly. */
static uint64_t pass_two(struct stand_in *stand_in, unsigned slot, enum loop_end end) {
    static struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    uint8_t frame[VNET_LENGTH + 2 * FLOW_PACKET_MAX];
    uint64_t n_before = writer_calls(&stand_in->writer, CALL_write);
    flow.acknowledgement++;
    put_from(stand_in, &flow, slot);
    put_from(stand_in, &flow, slot);
    if (end == LOOP_DOORBELL) {
        writer_run(&stand_in->writer);
    } else {
        ring_publish(stand_in->writer.lane.ring, &stand_in->writer.lane.ring_stats);
        CHECK_EQUAL(loop_run(stand_in->writer.worker.loop), end);
    }
    while (recv(stand_in->far[1], frame, sizeof frame, MSG_DONTWAIT) > 0)
        ;
    return writer_calls(&stand_in->writer, CALL_write) - n_before;
}

static void packets_of_two_peers_are_not_put_together(void) {
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    stand_in_open(&stand_in, MODE_TUN);
    put_from(&stand_in, &flow, 1);
    put_from(&stand_in, &flow, 2);
    writer_run(&stand_in.writer);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_write), 2);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), 0);
    stand_in_close(&stand_in);
}

/* EBADF stands for what the kernel has against the packets, whichever way they come. */
static void packets_that_are_refused_singly_as_well_are_no_fault_of_the_group(void) {
    enum { N_RUNS = 10, N_EACH = 20 };
    struct writer writer;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    int read_only = open("/dev/null", O_RDONLY);
    writer_open(&writer, MODE_TUN, read_only);
    for (int i = 0; i < N_RUNS; i++) {
        flow.acknowledgement++;
        writer_put_flow(&writer, &flow, i * N_EACH, N_EACH, -1);
    }
    writer_run(&writer);
    CHECK_EQUAL(writer_calls(&writer, CALL_writev), N_RUNS);
    CHECK_EQUAL(stats_read_drop(writer.lane.stats, DROP_tun_writer_device_refused),
                N_RUNS * N_EACH);
    CHECK_EQUAL(writer_counter(&writer, COUNTER_refused_offloads), 0);
    CHECK_EQUAL(tun_writer_of(writer.worker.loop)->groups[0][0].n, 0);
    writer_close(&writer);
    close(read_only);
}

static void what_is_refused_of_one_peer_costs_no_other_and_is_tried_again(void) {
    enum { OTHERS = 7 };
    struct stand_in stand_in;
    stand_in_open(&stand_in, MODE_TUN);
    struct refusals *refusals = tun_writer_of(stand_in.writer.worker.loop)->groups[0];
    refusals[0] = (struct refusals){.n = 8, .off_until_ns = UINT64_MAX, .error = EINVAL};
    CHECK_EQUAL(pass_two(&stand_in, 0, LOOP_DOORBELL), 2);
    CHECK_EQUAL(pass_two(&stand_in, OTHERS, LOOP_DOORBELL), 0);
    refusals[0].off_until_ns = 1; /* its time has passed */
    CHECK_EQUAL(pass_two(&stand_in, 0, LOOP_EVENT), 0);
    check_event(&stand_in, REFUSED_TCP_GROUPS, 0);
    CHECK_EQUAL(pass_two(&stand_in, 0, LOOP_DOORBELL), 0);
    stand_in_close(&stand_in);
}

static void a_super_packet_that_is_taken_ends_the_count_of_refusals(void) {
    enum { N_ROUNDS = 10, N_LONG = 10, SEND_BUFFER = 8192 }; /* one burst */
    struct stand_in stand_in;
    struct flow flow = {4, SPLIT_TCP, 0, 0, 0};
    uint8_t frame[VNET_LENGTH + 2 * FLOW_PACKET_MAX];
    int size = SEND_BUFFER / 2;
    stand_in_open(&stand_in, MODE_TUN);
    set_send_buffer(stand_in.far[0], size);
    for (int round = 0; round < N_ROUNDS; round++) {
        flow.acknowledgement++;
        writer_put_flow(&stand_in.writer, &flow, 0, N_LONG, -1);
        flow.acknowledgement++;
        writer_put_flow(&stand_in.writer, &flow, 0, 2, -1);
    }
    lane_publish(&stand_in.writer.lane);
    worker_start(&stand_in.writer.worker);
    for (int i = 0; i < N_ROUNDS * (N_LONG + 1); i++)
        CHECK(read(stand_in.far[1], frame, sizeof frame) > VNET_LENGTH);
    CHECK_EQUAL(worker_stop(&stand_in.writer.worker), LOOP_DOORBELL);
    CHECK_EQUAL(writer_calls(&stand_in.writer, CALL_writev), 2 * N_ROUNDS);
    stand_in_close(&stand_in);
}

int main(void) {
    RUN(packets_of_one_flow_in_the_ring_are_one_write_and_count_as_many);
    RUN(frames_of_one_flow_are_one_frame_with_their_ethernet_header);
    RUN(frames_with_another_ethernet_header_or_a_tag_are_not_put_together);
    RUN(a_packet_with_a_wrong_checksum_is_written_alone_and_as_it_came);
    RUN(what_is_not_asked_for_is_not_put_together);
    RUN(a_frame_with_an_offload_header_goes_as_it_is);
    RUN(refused_super_packets_are_written_packet_by_packet_and_soon_no_more_are_made);
    RUN(packets_that_are_refused_singly_as_well_are_no_fault_of_the_group);
    RUN(packets_of_two_peers_are_not_put_together);
    RUN(what_is_refused_of_one_peer_costs_no_other_and_is_tried_again);
    RUN(a_super_packet_that_is_taken_ends_the_count_of_refusals);
    return EXIT_SUCCESS;
}
