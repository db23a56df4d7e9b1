/* vnet_check on its way to the transport header: IP, its extensions, Ethernet and VLAN tags, each
 * at its bounds. Each frame is in memory of exactly its size, so ASan sees a byte read too far. */
#include "vnet_case.h"

/* -- the way to the transport header ----------------------------------------------------------- */

static void a_fragment_has_no_checksum_to_complete(void) {
    for (int bit = 0; bit < 16; bit++) {
        make(4, bit % 2 == 0, 100, 1000);
        be16_write(packet.bytes + 6, (uint16_t)(1 << bit));
        /* the two bits above: DF, and the reserved one */
        CHECK_EQUAL(check(), bit < 14 ? REFUSED : 10);
        packet.vnet.gso_type = VNET_GSO_NONE;
        CHECK_EQUAL(check(), bit < 14 ? REFUSED : 1);
    }
}

static void the_protocol_is_the_checksums(void) {
    for (int protocol = 0; protocol < 256; protocol++)
        for (int kind = 0; kind < 4; kind++) {
            int version = kind % 2 == 0 ? 4 : 6;
            make(version, kind >= 2, 100, 100);
            packet.bytes[version == 4 ? 9 : 6] = (uint8_t)protocol;
            bool is_right = protocol == (kind >= 2 ? 17 : 6);
            CHECK_EQUAL(check(), is_right ? 1 : REFUSED);
            packet.vnet.gso_type = VNET_GSO_NONE;
            CHECK_EQUAL(check(), is_right ? 1 : REFUSED);
        }
}

static void the_ip_version_is_4_or_6(void) {
    for (int version = 0; version < 16; version++)
        for (int is_tap = 0; is_tap < 2; is_tap++) {
            make_shape((struct super_packet_shape){
                .version = 6, .is_udp = true, .is_tap = is_tap, .size = 100, .payload = 100});
            packet.bytes[packet.ip] = (uint8_t)(version << 4);
            CHECK_EQUAL(check(), version == 6 ? 1 : REFUSED);
        }
}

/* With an offload header that believes whatever the IP header says. */
static void an_ipv4_header_is_20_bytes_at_least_and_ends_where_it_says(void) {
    for (size_t words = 0; words < 16; words++)
        for (size_t believed = 0; believed < 16; believed++) {
            make_shape((struct super_packet_shape){
                .version = 4, .is_udp = true, .ip_options = 40, .size = 400, .payload = 300});
            packet.bytes[0] = (uint8_t)(0x40 | words);
            packet.vnet.csum_start = (uint16_t)(4 * believed);
            CHECK_EQUAL(check(), words >= 5 && words == believed ? 1 : REFUSED);
        }
}

/* One header of each type and length between IPv6 header and transport. */
static void only_options_and_routing_may_come_before_the_transport(void) {
    for (int type = 0; type < 256; type++) {
        make_shape((struct super_packet_shape){
            .version = 6, .is_udp = type % 2 == 0, .ip_options = 8, .size = 100, .payload = 500});
        packet.bytes[6] = (uint8_t)type;
        CHECK_EQUAL(check(), type != 0 && type != 43 && type != 60 ? REFUSED : 5);
    }
    for (int units = 0; units < 256; units++) {
        make_shape((struct super_packet_shape){
            .version = 6, .is_udp = units % 2 == 0, .ip_options = 48, .size = 100, .payload = 500});
        packet.bytes[49] = (uint8_t)units;
        CHECK_EQUAL(check(), units != 4 ? REFUSED : 5);
    }
}

/* Places n empty headers; the transport's is behind them. */
static void extend(size_t n) {
    make_shape((struct super_packet_shape){
        .version = 6, .is_udp = true, .ip_options = 8 * n, .size = 100, .payload = 100});
    for (size_t i = 0; i < n; i++) {
        uint8_t *header = packet.bytes + IPV6 + 8 * i;
        memset(header, 0, 8);
        header[0] = i + 1 < n ? 60 : 17;
    }
}

static void there_are_four_extension_headers_at_most_and_each_is_whole(void) {
    for (size_t n = 1; n <= 6; n++) {
        extend(n);
        CHECK_EQUAL(check(), n <= 4 ? 1 : REFUSED);
        for (size_t length = 1; length < packet.transport + UDP + 1; length++) {
            packet.length = length;
            CHECK_EQUAL(check(), REFUSED);
        }
    }
}

/* -- Ethernet ---------------------------------------------------------------------------------- */

static void an_ethernet_header_names_the_ip_version_behind_it(void) {
    for (size_t n_tags = 0; n_tags <= 2; n_tags++)
        for (int version = 4; version <= 6; version += 2) {
            make_shape((struct super_packet_shape){.version = version,
                                                   .is_udp = n_tags == 1,
                                                   .is_tap = true,
                                                   .n_tags = n_tags,
                                                   .size = 100,
                                                   .payload = 500});
            CHECK_EQUAL(check(), 5);
            uint8_t *type = packet.bytes + 12 + 4 * n_tags;
            static const uint16_t wrong[] = {0, 0x0806, 0x8100, 0x88a8, 0xffff};
            for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
                be16_write(type, wrong[i]);
                CHECK_EQUAL(check(), REFUSED);
            }
            be16_write(type, version == 4 ? 0x86dd : 0x0800);
            CHECK_EQUAL(check(), REFUSED);
        }
}

/* A third tag is a type that is not IP's. */
static void there_are_two_vlan_tags_at_most(void) {
    make_shape((struct super_packet_shape){
        .version = 4, .is_tap = true, .n_tags = 2, .size = 100, .payload = 500});
    CHECK_EQUAL(check(), 5);
    memmove(packet.bytes + 16, packet.bytes + 12, packet.length - 12); /* the first one twice */
    packet.length += 4;
    packet.vnet.csum_start += 4;
    CHECK_EQUAL(check(), REFUSED);
}

static void behind_tags_an_ip_header_is_whole(void) {
    for (size_t n_tags = 0; n_tags <= 2; n_tags++)
        for (int version = 4; version <= 6; version += 2) {
            make_shape((struct super_packet_shape){.version = version,
                                                   .is_udp = true,
                                                   .is_tap = true,
                                                   .n_tags = n_tags,
                                                   .size = 100,
                                                   .payload = 100});
            for (size_t length = 14; length <= packet.header; length++) {
                packet.length = length;
                CHECK_EQUAL(check(), REFUSED);
            }
        }
}

int main(void) {
    RUN(a_fragment_has_no_checksum_to_complete);
    RUN(the_protocol_is_the_checksums);
    RUN(the_ip_version_is_4_or_6);
    RUN(an_ipv4_header_is_20_bytes_at_least_and_ends_where_it_says);
    RUN(only_options_and_routing_may_come_before_the_transport);
    RUN(there_are_four_extension_headers_at_most_and_each_is_whole);
    RUN(an_ethernet_header_names_the_ip_version_behind_it);
    RUN(there_are_two_vlan_tags_at_most);
    RUN(behind_tags_an_ip_header_is_whole);
    return EXIT_SUCCESS;
}
