/* capture_file: what is in a capture's rings, as blocks of a pcapng file
 * (draft-ietf-opsawg-pcapng 4.3). The other blocks are Python's.
 *
 * A message of a link is given headers of IP and UDP, so that programs know what it is; those of
 * addresses, if it came by UDP, are true.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "packet/byteorder.h"
#include "packet/checksum.h"
#include "packet/headers.h"
#include "shared/capture_record.h"
#include "shared/ring.h"
#include "shared/stats.h"

enum {
    RINGS_MAX = 8,
    ENHANCED_PACKET_BLOCK = 6,
    BLOCK_HEADER = 28, /* up to the bytes of the packet */
    OPTION_COMMENT = 1,
    OPTION_FLAGS = 2,
    FLAG_INBOUND = 1,
    FLAG_OUTBOUND = 2,
    COMMENT_MAX = 512,
    HOPS = 64,
    LENGTH_MAX = 65535, /* that these headers can say */
};

_Static_assert(CAPTURE_HEADERS_MAX >= IPV6_HEADER_SIZE + UDP_HEADER_SIZE, "the longer of both");

/* What is appended to. */
struct block {
    uint8_t *start;
    size_t length;
};

static void append(struct block *block, const void *bytes, size_t length) {
    memcpy(block->start + block->length, bytes, length);
    block->length += length;
}

static void append_u32(struct block *block, uint32_t value) {
    append(block, &value, sizeof value);
}

static void pad(struct block *block) {
    static const uint8_t zeros[3] = {0};
    append(block, zeros, (4 - block->length % 4) % 4);
}

static void append_option(struct block *block, uint16_t code, const void *value, size_t length) {
    uint16_t head[2] = {code, (uint16_t)length};
    append(block, head, sizeof head);
    append(block, value, length);
    pad(block);
}

/* -- headers of IP and UDP --------------------------------------------------------------------- */

static uint16_t bounded(size_t length) {
    return (uint16_t)(length < LENGTH_MAX ? length : LENGTH_MAX);
}

static void write_udp(uint8_t *udp, const struct capture_path *path, bool is_inbound,
                      size_t length) {
    be16_write(udp, is_inbound ? path->endpoint.port : path->local_port);
    be16_write(udp + sizeof(uint16_t), is_inbound ? path->local_port : path->endpoint.port);
    be16_write(udp + UDP_LENGTH_OFFSET, bounded(UDP_HEADER_SIZE + length));
}

static void write_ipv4(uint8_t *ip, const uint8_t *source, const uint8_t *target, size_t length) {
    ip[0] = IPV4_VERSION_PLAIN;
    be16_write(ip + IPV4_TOTAL_LENGTH_OFFSET, bounded(IPV4_HEADER_SIZE + length));
    ip[IPV4_TTL_OFFSET] = HOPS;
    ip[IPV4_PROTOCOL_OFFSET] = PROTOCOL_UDP;
    memcpy(ip + IPV4_SOURCE_OFFSET, source, IPV4_ADDRESS_SIZE);
    memcpy(ip + IPV4_DESTINATION_OFFSET, target, IPV4_ADDRESS_SIZE);
    checksum_write(ip + IPV4_CHECKSUM_OFFSET, checksum_add(0, ip, IPV4_HEADER_SIZE));
}

static void write_ipv6(uint8_t *ip, const uint8_t *source, const uint8_t *target, size_t length) {
    ip[0] = IPV6_VERSION_PLAIN;
    be16_write(ip + IPV6_PAYLOAD_LENGTH_OFFSET, bounded(length));
    ip[IPV6_NEXT_HEADER_OFFSET] = PROTOCOL_UDP;
    ip[IPV6_HOP_LIMIT_OFFSET] = HOPS;
    memcpy(ip + IPV6_SOURCE_OFFSET, source, IPV6_ADDRESS_SIZE);
    memcpy(ip + IPV6_DESTINATION_OFFSET, target, IPV6_ADDRESS_SIZE);
}

/* Returns how long they are. */
static size_t write_headers(uint8_t *headers, const struct capture_path *path, bool is_inbound,
                            size_t length) {
    const uint8_t *theirs = path->endpoint.address, *ours = path->endpoint.local;
    const uint8_t *source = is_inbound ? theirs : ours, *target = is_inbound ? ours : theirs;
    bool is_ipv6 = path->endpoint.family == UDP_ADDRESS_IPV6;
    size_t ip = is_ipv6 ? IPV6_HEADER_SIZE : IPV4_HEADER_SIZE;
    memset(headers, 0, CAPTURE_HEADERS_MAX);
    write_udp(headers + ip, path, is_inbound, length);
    if (is_ipv6)
        write_ipv6(headers, source, target, UDP_HEADER_SIZE + length);
    else
        write_ipv4(headers, source, target, UDP_HEADER_SIZE + length);
    return ip + UDP_HEADER_SIZE;
}

/* -- a block ----------------------------------------------------------------------------------- */

static void append_comment(struct block *block, uint32_t drop) {
    char comment[COMMENT_MAX];
    if (drop >= N_DROPS)
        return;
    int n = snprintf(comment, sizeof comment, "dropped by the %s: %s (%s)",
                     stats_role_name(stats_drop_role(drop)), stats_drop_reason(drop),
                     stats_drop_help(drop));
    if (n > 0)
        append_option(block, OPTION_COMMENT, comment,
                      n < COMMENT_MAX ? (size_t)n : COMMENT_MAX - 1);
}

/* Appends the packet, in 7 words and its bytes. */
static void append_packet(struct block *block, const struct ring_view *view, uint32_t interface,
                          const uint8_t *headers, size_t n_headers) {
    const uint8_t *bytes = view->payload + sizeof(struct capture_path);
    size_t n_bytes = view->length - sizeof(struct capture_path);
    append_u32(block, ENHANCED_PACKET_BLOCK);
    append_u32(block, 0); /* its length: write_block */
    append_u32(block, interface);
    append_u32(block, (uint32_t)(view->enqueued_ns >> 32));
    append_u32(block, (uint32_t)view->enqueued_ns);
    append_u32(block, (uint32_t)(n_headers + n_bytes));
    append_u32(block, (uint32_t)n_headers + view->n_bytes);
    append(block, headers, n_headers);
    append(block, bytes, n_bytes);
    pad(block);
}

static size_t write_block(uint8_t *to, const struct ring_view *view, uint32_t interface) {
    struct block block = {to, 0};
    struct capture_path path;
    uint8_t headers[CAPTURE_HEADERS_MAX];
    bool is_inbound = (view->link_id & CAPTURE_INBOUND) != 0;
    uint32_t flags = is_inbound ? FLAG_INBOUND : FLAG_OUTBOUND;
    size_t n_headers = 0;
    memcpy(&path, view->payload, sizeof path);
    if ((view->link_id & CAPTURE_STAGE_MASK) == CAPTURE_SEALED)
        n_headers = write_headers(headers, &path, is_inbound, view->n_bytes);
    append_packet(&block, view, interface, headers, n_headers);
    append_option(&block, OPTION_FLAGS, &flags, sizeof flags);
    append_comment(&block, view->segment);
    append_u32(&block, 0); /* the last option */
    append_u32(&block, (uint32_t)block.length + 4);
    memcpy(to + 4, to + block.length - 4, 4);
    return block.length;
}

/* -- all rings --------------------------------------------------------------------------------- */

/* Where reading a ring has got. */
struct place {
    uint64_t cursor, taken; /* behind the view, and behind what was written */
    const struct ring_view *view;
};

static bool is_sound(const struct ring_view *view) {
    return view->length >= sizeof(struct capture_path) &&
           view->length - sizeof(struct capture_path) <= CAPTURE_SNAP_MAX &&
           (view->link_id & CAPTURE_STAGE_MASK) < N_CAPTURE_STAGES;
}

/* false: the memory is damaged. */
static bool look(struct ring *ring, struct place *place) {
    bool corrupt = false;
    place->view = ring_peek(ring, &place->cursor, &corrupt);
    return !corrupt && (place->view == NULL || is_sound(place->view));
}

static struct place *oldest(struct place *places, size_t n) {
    struct place *found = NULL;
    for (size_t i = 0; i < n; i++)
        if (places[i].view != NULL &&
            (found == NULL || places[i].view->enqueued_ns < found->view->enqueued_ns))
            found = &places[i];
    return found;
}

int capture_read(struct ring *const *rings, size_t n_rings, struct capture_output *output,
                 uint8_t *to, size_t room) {
    struct place places[RINGS_MAX];
    struct stats_block uncounted = {0};
    bool is_whole = n_rings <= RINGS_MAX;
    size_t used = 0;
    for (size_t i = 0; i < n_rings && is_whole; i++) {
        places[i].cursor = places[i].taken = ring_first(rings[i]);
        is_whole = look(rings[i], &places[i]);
    }
    while (is_whole && output->n_left > 0 && room - used >= CAPTURE_BLOCK_MAX) {
        struct place *place = oldest(places, n_rings);
        if (place == NULL)
            break;
        uint32_t stage = place->view->link_id & CAPTURE_STAGE_MASK;
        used += write_block(to + used, place->view, output->interfaces[stage]);
        output->n_packets[stage]++;
        output->n_left--;
        place->taken = place->cursor;
        is_whole = look(rings[place - places], place);
    }
    for (size_t i = 0; i < n_rings && is_whole; i++)
        ring_release(rings[i], places[i].taken, &uncounted);
    return is_whole ? (int)used : -EBADMSG;
}

uint64_t capture_lost(struct ring *ring, unsigned stage) {
    return stage < N_CAPTURE_STAGES ? atomic_load(&ring->shared->n_lost[stage]) : 0;
}
