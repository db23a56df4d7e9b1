/* headers: where the walk ends, that it reads nothing behind the packet, and what it says of
 * fragments. */
#include "packet/headers.h"

#include "check.h"
#include "random.h"

enum { PACKET_MAX = 400 };

/* Exactly as long as its content, so that ASan sees a read behind it. */
static struct ip_headers walk(const uint8_t *packet, size_t length) {
    uint8_t *exact = malloc(length);
    CHECK(length == 0 || exact != NULL);
    if (length > 0)
        memcpy(exact, packet, length);
    struct ip_headers headers = ip_walk(exact, length);
    free(exact);
    return headers;
}

static void ipv6_begin(uint8_t *packet, uint8_t next) {
    memset(packet, 0, PACKET_MAX);
    packet[0] = 0x60;
    packet[IPV6_NEXT_HEADER_OFFSET] = next;
}

static size_t extension_append(uint8_t *packet, size_t at, uint8_t next, uint8_t length) {
    packet[at] = next;
    packet[at + EXTENSION_LENGTH_OFFSET] = length;
    return at + EXTENSION_SIZE_MIN;
}

static void ipv4_options_are_skipped_and_must_be_whole(void) {
    uint8_t packet[60] = {0};
    packet[IPV4_PROTOCOL_OFFSET] = PROTOCOL_UDP;
    for (size_t words = 0; words < 16; words++) {
        packet[0] = (uint8_t)(0x40 | words);
        for (size_t length = 0; length <= sizeof packet; length++) {
            bool is_whole = words >= 5 && words * 4 <= length && length >= IPV4_HEADER_SIZE;
            CHECK_EQUAL(walk(packet, length).transport, is_whole ? words * 4 : 0);
        }
    }
}

static void ipv4_fragments_are_recognised(void) {
    uint8_t packet[IPV4_HEADER_SIZE] = {IPV4_VERSION_PLAIN};
    const struct {
        uint16_t word;
        bool is_fragment, is_later;
    } cases[] = {{0, false, false},      {IPV4_DONT_FRAGMENT, false, false},
                 {0x8000, false, false}, {IPV4_MORE_FRAGMENTS, true, false},
                 {1, true, true},        {IPV4_MORE_FRAGMENTS | 0x1000, true, true},
                 {0x1fff, true, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        be16_write(packet + IPV4_FRAGMENT_OFFSET, cases[i].word);
        struct ip_headers headers = walk(packet, sizeof packet);
        CHECK_EQUAL(headers.is_fragment, cases[i].is_fragment);
        CHECK_EQUAL(headers.is_later_fragment, cases[i].is_later);
    }
}

static void the_usual_chain_of_extensions_leads_to_the_transport(void) {
    uint8_t packet[PACKET_MAX];
    ipv6_begin(packet, EXTENSION_HOP_BY_HOP);
    size_t at = extension_append(packet, IPV6_HEADER_SIZE, EXTENSION_DESTINATION, 0);
    at = extension_append(packet, at, EXTENSION_ROUTING, 1) + 8;
    at = extension_append(packet, at, EXTENSION_FRAGMENT, 2) + 16;
    at = extension_append(packet, at, EXTENSION_AUTHENTICATION, 255); /* reserved here */
    at = extension_append(packet, at, EXTENSION_DESTINATION, 4) + 16;
    at = extension_append(packet, at, PROTOCOL_TCP, 0);
    struct ip_headers headers = walk(packet, at);
    CHECK_EQUAL(headers.transport, at);
    CHECK_EQUAL(headers.protocol, PROTOCOL_TCP);
    CHECK_EQUAL(headers.n_extensions, 6);
    CHECK(headers.is_fragment && headers.is_authenticated && !headers.is_later_fragment);
    for (size_t length = 0; length < at; length++)
        CHECK_EQUAL(walk(packet, length).transport, 0);
}

static void nothing_is_walked_behind_a_later_fragments_header(void) {
    uint8_t packet[PACKET_MAX];
    ipv6_begin(packet, EXTENSION_FRAGMENT);
    size_t at = extension_append(packet, IPV6_HEADER_SIZE, EXTENSION_DESTINATION, 0);
    be16_write(packet + IPV6_HEADER_SIZE + EXTENSION_FRAGMENT_OFFSET, 8);
    struct ip_headers headers = walk(packet, at);
    CHECK_EQUAL(headers.transport, at);
    CHECK_EQUAL(headers.protocol, EXTENSION_DESTINATION);
    CHECK(headers.is_later_fragment);
    be16_write(packet + IPV6_HEADER_SIZE + EXTENSION_FRAGMENT_OFFSET, 1); /* more, but the first */
    extension_append(packet, at, PROTOCOL_UDP, 0);
    CHECK_EQUAL(walk(packet, at).transport, 0);
    CHECK_EQUAL(walk(packet, at + EXTENSION_SIZE_MIN).transport, at + EXTENSION_SIZE_MIN);
}

static void more_extensions_than_any_packet_needs_are_not_walked(void) {
    uint8_t packet[PACKET_MAX];
    ipv6_begin(packet, EXTENSION_DESTINATION);
    size_t at = IPV6_HEADER_SIZE;
    for (int n = 1; n <= EXTENSIONS_MAX + 1; n++) {
        size_t end = extension_append(packet, at, PROTOCOL_UDP, 0);
        CHECK_EQUAL(walk(packet, PACKET_MAX).transport, n <= EXTENSIONS_MAX ? end : 0);
        packet[at] = EXTENSION_DESTINATION;
        at = end;
    }
}

static void what_is_not_ip_has_no_headers(void) {
    uint8_t packet[PACKET_MAX] = {[IPV6_NEXT_HEADER_OFFSET] = PROTOCOL_UDP};
    for (unsigned version = 0; version < 16; version++) {
        packet[0] = (uint8_t)(version << 4 | 5);
        CHECK_EQUAL(walk(packet, PACKET_MAX).transport != 0, version == 4 || version == 6);
    }
    CHECK_EQUAL(ip_walk(NULL, 0).transport, 0);
}

static void ip_is_found_behind_two_vlan_tags_at_most(void) {
    uint8_t frame[PACKET_MAX] = {0};
    size_t at = ETHERNET_HEADER_SIZE;
    for (int n_tags = 0; n_tags < 4; n_tags++, at += VLAN_TAG_SIZE) {
        be16_write(frame + at - ETHERNET_TYPE_SIZE, ETHERNET_TYPE_IPV6);
        frame[at] = 0x60;
        size_t found = n_tags <= VLAN_TAGS_MAX ? at : 0;
        CHECK_EQUAL(ethernet_find_ip(frame, PACKET_MAX), found);
        frame[at] = 0x45; /* not what was announced */
        CHECK_EQUAL(ethernet_find_ip(frame, PACKET_MAX), 0);
        CHECK_EQUAL(ethernet_find_ip(frame, ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE - 1), 0);
        be16_write(frame + at - ETHERNET_TYPE_SIZE,
                   n_tags % 2 == 0 ? ETHERNET_TYPE_VLAN : ETHERNET_TYPE_SERVICE_VLAN);
    }
}

static void any_bytes_are_walked_within_their_length(void) {
    struct random random = {7};
    uint8_t packet[PACKET_MAX];
    for (int i = 0; i < 20000; i++) {
        size_t length = random_below(&random, PACKET_MAX);
        random_fill(&random, packet, length);
        packet[0] = (i & 1) != 0 ? packet[0] & 15u : packet[0];
        packet[0] |= (i & 1) != 0 ? 0x60 : 0;
        packet[IPV6_NEXT_HEADER_OFFSET] = (i & 2) != 0 ? EXTENSION_ROUTING : packet[6];
        CHECK(walk(packet, length).transport <= length);
    }
}

int main(void) {
    RUN(ipv4_options_are_skipped_and_must_be_whole);
    RUN(ipv4_fragments_are_recognised);
    RUN(the_usual_chain_of_extensions_leads_to_the_transport);
    RUN(nothing_is_walked_behind_a_later_fragments_header);
    RUN(more_extensions_than_any_packet_needs_are_not_walked);
    RUN(what_is_not_ip_has_no_headers);
    RUN(ip_is_found_behind_two_vlan_tags_at_most);
    RUN(any_bytes_are_walked_within_their_length);
    return EXIT_SUCCESS;
}
