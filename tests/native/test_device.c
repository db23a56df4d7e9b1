/* A real TUN and a real TAP device, in a network namespace of this process: what vnet_check lets
 * pass must never be refused by the kernel that is to take it, and a device may vanish.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "host/device.h"
#include "check.h"
#include "formats.h"
#include "frames.h"
#include "own_network.h"
#include "worker_thread.h"

enum { RING_BYTES = RING_SIZE_MIN, N_FRAMES = 60000 };

/* -- the header's judge and its kernel --------------------------------------------------------- */

/* Mostly values near those that matter: a wholly random field is refused at once. */
static uint16_t disturbed(struct random *random, uint16_t value) {
    switch (random_below(random, 4)) {
    case 0:
        return (uint16_t)(value + random_below(random, 81) - 40);
    case 1:
        return (uint16_t)random_below(random, 100);
    case 2:
        return (uint16_t)(0xffff - random_below(random, 3));
    default:
        return (uint16_t)random_next(random);
    }
}

static void disturb(struct frame *frame, struct random *random, size_t l3) {
    struct vnet vnet = vnet_read(frame->bytes);
    uint8_t *packet = frame->bytes + VNET_LENGTH;
    switch (random_below(random, 8)) {
    case 0:
        vnet.csum_start = disturbed(random, vnet.csum_start);
        break;
    case 1:
        vnet.csum_offset = disturbed(random, vnet.csum_offset);
        break;
    case 2:
        vnet.gso_size = disturbed(random, vnet.gso_size);
        break;
    case 3:
        vnet.gso_type = (uint8_t)random_below(random, 8);
        break;
    case 4: /* another IP header length, and an offload header that believes it */
        packet[l3] = (uint8_t)((packet[l3] & 0xf0) | random_below(random, 16));
        vnet.csum_start = (uint16_t)(l3 + (packet[l3] & 15u) * 4u);
        break;
    case 5:
        frame->length = VNET_LENGTH + 1 + random_below(random, frame->length - VNET_LENGTH);
        break;
    default:
        break;
    }
    vnet_write(&vnet, frame->bytes);
}

static void report_refusal(const struct vnet *vnet, const struct frame *frame, enum mode mode) {
    const uint8_t *packet = frame->bytes + VNET_LENGTH;
    printf("        refused: tap %d, gso_type %#x size %u, csum %u+%u, length %zu, begins %02x\n",
           mode == MODE_TAP, vnet->gso_type, vnet->gso_size, vnet->csum_start, vnet->csum_offset,
           frame->length - VNET_LENGTH, packet[mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0]);
}

static size_t count_refusals(enum mode mode, int fd) {
    struct random random = {2024};
    struct frame *frame = malloc(sizeof *frame);
    size_t n_passed = 0, n_refused = 0;
    for (int i = 0; i < N_FRAMES; i++) {
        frame_make_any(frame, &random, mode, N_FRAME_KINDS, 3000);
        disturb(frame, &random, mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0);
        struct vnet vnet = vnet_read(frame->bytes);
        const uint8_t *packet = frame->bytes + VNET_LENGTH;
        size_t length = frame->length - VNET_LENGTH;
        if (!message_is_frame(mode, packet, length) ||
            vnet_check(&vnet, packet, length, mode == MODE_TAP ? ETHERNET_HEADER_SIZE : 0) < 0)
            continue;
        vnet_write(&vnet, frame->bytes);
        n_passed++;
        if (write(fd, frame->bytes, frame->length) < 0 && errno == EINVAL && n_refused++ < 5)
            report_refusal(&vnet, frame, mode);
    }
    free(frame);
    CHECK(n_passed > N_FRAMES / 2);
    return n_refused;
}

static void what_passes_the_check_is_taken_by_a_tun_device(void) {
    int fd = own_network_device("passes0", MODE_TUN);
    CHECK_EQUAL(count_refusals(MODE_TUN, fd), 0);
    close(fd);
}

static void what_passes_the_check_is_taken_by_a_tap_device(void) {
    int fd = own_network_device("passes1", MODE_TAP);
    CHECK_EQUAL(count_refusals(MODE_TAP, fd), 0);
    close(fd);
}

/* -- its life ---------------------------------------------------------------------------------- */

static void a_name_that_is_too_long_or_taken_is_refused(void) {
    int fd = device_open("fifteen_letters", MODE_TUN);
    CHECK(fd >= 0);
    CHECK_EQUAL(device_open("sixteen_letters_", MODE_TUN), -ENAMETOOLONG);
    CHECK_EQUAL(device_open("fifteen_letters", MODE_TUN), -EBUSY);
    CHECK_EQUAL(device_open("fifteen_letters", MODE_TAP), -EINVAL);
    CHECK(if_nametoindex("fifteen_letters") > 0);
    close(fd);
    CHECK_EQUAL(if_nametoindex("fifteen_letters"), 0); /* nothing is left */
}

static void publish_packets(struct lane_memory *lane, size_t n) {
    for (; n > 0; n--) {
        struct ring_record *record = lane_commit(
            lane, (struct ring_record){.length = VNET_LENGTH + 60, .n_packets = 1, .n_bytes = 60});
        ring_payload(record)[VNET_LENGTH] = 0x45;
    }
    lane_publish(lane);
}

static void every_frame_for_a_device_that_vanishes_is_delivered_or_counted(void) {
    struct lane_memory lane;
    struct worker_thread worker;
    int fd = own_network_device("vanishes", MODE_TUN);
    lane_memory_open(&lane, RING_BYTES);
    worker_open(&worker, ROLE_tun_writer, WIRE_PLAIN, MODE_TUN, &lane, fd);
    publish_packets(&lane, 10);
    CHECK_EQUAL(worker_run(&worker), LOOP_DOORBELL);
    CHECK_EQUAL(stats_read_counter(lane.stats, ROLE_tun_writer, COUNTER_packets), 10);
    CHECK_EQUAL(system("ip link delete vanishes"), 0);
    publish_packets(&lane, 10);
    CHECK_EQUAL(worker_run(&worker), LOOP_DEVICE_GONE);
    CHECK_EQUAL(loop_error(worker.loop), EBADFD);
    uint64_t n_in_ring = ring_used_bytes(lane.ring) / 128;
    CHECK_EQUAL(stats_read_counter(lane.stats, ROLE_tun_writer, COUNTER_packets) +
                    lane_dropped_in_all(&lane) + n_in_ring,
                20);
    worker_close(&worker);
    lane_memory_close(&lane);
    close(fd);
}

int main(void) {
    if (!own_network_enter())
        return EXIT_SKIP;
    RUN(a_name_that_is_too_long_or_taken_is_refused);
    RUN(what_passes_the_check_is_taken_by_a_tap_device);
    RUN(what_passes_the_check_is_taken_by_a_tun_device);
    RUN(every_frame_for_a_device_that_vanishes_is_delivered_or_counted);
    return EXIT_SUCCESS;
}
