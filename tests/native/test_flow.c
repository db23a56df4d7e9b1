/* flow: frames of one flow have one number, and few others have it. */
#include "packet/flow.h"

#include "check.h"
#include "packet/headers.h"

enum { LENGTH = 100 };

/* From port `from` to port 443, of address `host` in 10.0.0.0/24 or fd00::/64. */
static void write_ip4(uint8_t *packet, uint8_t protocol, uint8_t host, uint16_t from) {
    memset(packet, 0, LENGTH);
    packet[0] = IPV4_VERSION_PLAIN;
    packet[IPV4_PROTOCOL_OFFSET] = protocol;
    packet[IPV4_SOURCE_OFFSET] = packet[IPV4_DESTINATION_OFFSET] = 10;
    packet[IPV4_SOURCE_OFFSET + 3] = host;
    packet[IPV4_DESTINATION_OFFSET + 3] = 1;
    be16_write(packet + IPV4_HEADER_SIZE, from);
    be16_write(packet + IPV4_HEADER_SIZE + 2, 443);
}

static void write_ip6(uint8_t *packet, uint8_t protocol, uint8_t host, uint16_t from) {
    memset(packet, 0, LENGTH);
    packet[0] = IPV6_VERSION_PLAIN;
    packet[IPV6_NEXT_HEADER_OFFSET] = protocol;
    packet[IPV6_SOURCE_OFFSET] = packet[IPV6_DESTINATION_OFFSET] = 0xfd;
    packet[IPV6_SOURCE_OFFSET + 15] = host;
    packet[IPV6_DESTINATION_OFFSET + 15] = 1;
    be16_write(packet + IPV6_HEADER_SIZE, from);
    be16_write(packet + IPV6_HEADER_SIZE + 2, 443);
}

static unsigned of(const uint8_t *packet) {
    return flow_of(MODE_TUN, packet, LENGTH);
}

static void a_flow_has_one_number_whatever_else_its_packets_say(void) {
    uint8_t first[LENGTH], second[LENGTH];
    write_ip4(first, PROTOCOL_TCP, 2, 1000);
    write_ip4(second, PROTOCOL_TCP, 2, 1000);
    memset(second + IPV4_HEADER_SIZE + PORTS_SIZE, 0x5a, 40);
    second[IPV4_TOS_OFFSET] = 3;
    second[IPV4_TTL_OFFSET] = 7;
    CHECK_EQUAL(of(first), of(second));
    CHECK_EQUAL(of(first), flow_of(MODE_TUN, first, IPV4_HEADER_SIZE + PORTS_SIZE));
    write_ip6(first, PROTOCOL_UDP, 2, 1000);
    write_ip6(second, PROTOCOL_UDP, 2, 1000);
    second[IPV6_HOP_LIMIT_OFFSET] = 9;
    CHECK_EQUAL(of(first), of(second));
}

/* Of 1,000 flows that differ in the port alone none of the numbers has more than its part, or nearly. */
static void flows_are_spread_over_all_numbers(void) {
    for (int version = 4; version <= 6; version += 2) {
        unsigned n_of[N_FLOWS] = {0}, n_used = 0;
        for (uint16_t port = 1000; port < 2000; port++) {
            uint8_t packet[LENGTH];
            (version == 4 ? write_ip4 : write_ip6)(packet, PROTOCOL_TCP, 2, port);
            CHECK(of(packet) < N_FLOWS);
            n_used += n_of[of(packet)]++ == 0;
        }
        CHECK(n_used > N_FLOWS * 9 / 10);
        for (int i = 0; i < N_FLOWS; i++)
            CHECK(n_of[i] < 20);
    }
}

/* Only the first fragment has the ports. */
static void all_fragments_of_a_packet_are_of_one_flow(void) {
    uint8_t first[LENGTH], later[LENGTH];
    write_ip4(first, PROTOCOL_UDP, 2, 1000);
    be16_write(first + IPV4_FRAGMENT_OFFSET, 0x2000);
    write_ip4(later, PROTOCOL_UDP, 2, 0x1234);
    be16_write(later + IPV4_FRAGMENT_OFFSET, 185);
    CHECK_EQUAL(of(first), of(later));
}

static void what_is_without_ports_goes_by_its_addresses(void) {
    uint8_t ping[LENGTH], other[LENGTH];
    write_ip4(ping, PROTOCOL_ICMP, 2, 0x0800);
    write_ip4(other, PROTOCOL_ICMP, 2, 0x0000);
    CHECK_EQUAL(of(ping), of(other));
    write_ip4(other, PROTOCOL_ICMP, 3, 0x0800);
    CHECK(of(ping) != of(other));
}

static void frames_of_a_tap_device_go_by_the_packet_in_them_or_by_mac_addresses(void) {
    uint8_t frame[ETHERNET_HEADER_SIZE + LENGTH] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00};
    write_ip4(frame + ETHERNET_HEADER_SIZE, PROTOCOL_TCP, 2, 1000);
    CHECK_EQUAL(flow_of(MODE_TAP, frame, sizeof frame), of(frame + ETHERNET_HEADER_SIZE));
    frame[12] = 0x08, frame[13] = 0x06; /* ARP */
    unsigned number = flow_of(MODE_TAP, frame, ETHERNET_HEADER_SIZE);
    frame[ETHERNET_HEADER_SIZE] = 0;
    CHECK_EQUAL(flow_of(MODE_TAP, frame, sizeof frame), number);
    frame[5] = 9;
    CHECK(flow_of(MODE_TAP, frame, sizeof frame) != number);
}

/* Found by fuzz_headers: two VLAN tags, and 14 bytes of an IPv6 header. On the heap, for ASan. */
static void a_frame_that_ends_inside_its_header_is_not_read_beyond(void) {
    enum { SHORT = ETHERNET_HEADER_SIZE + 2 * VLAN_TAG_SIZE + 14 };
    const uint8_t tags[] = {0x81, 0x00, 0, 1, 0x81, 0x00, 0, 2, 0x86, 0xdd, IPV6_VERSION_PLAIN};
    uint8_t *frame = calloc(1, SHORT);
    CHECK(frame != NULL);
    memcpy(frame + 2 * MAC_SIZE, tags, sizeof tags);
    CHECK(ethernet_find_ip(frame, SHORT) > 0);
    CHECK(flow_of(MODE_TAP, frame, SHORT) < N_FLOWS);
    free(frame);
}

int main(void) {
    RUN(a_flow_has_one_number_whatever_else_its_packets_say);
    RUN(flows_are_spread_over_all_numbers);
    RUN(all_fragments_of_a_packet_are_of_one_flow);
    RUN(what_is_without_ports_goes_by_its_addresses);
    RUN(frames_of_a_tap_device_go_by_the_packet_in_them_or_by_mac_addresses);
    RUN(a_frame_that_ends_inside_its_header_is_not_read_beyond);
    return EXIT_SUCCESS;
}
