/* Any packets one behind the other: what is put together has right checksums and splits into the
 * packets that came, and the header given to the kernel passes vnet_check. The input is chunks with
 * a kind and a u16 length before each: the kind says what is put right, so that the chunk becomes a
 * packet that may be merged, or one that continues the packet before. */
#include <stdlib.h>

#include "fuzz.h"
#include "packet/gro.h"
#include "splitter.h"

enum {
    N_PACKETS_MAX = 80,
    CHUNK_MAX = 1900,
    PACKET_MAX = 100 + CHUNK_MAX,

    /* kinds */
    LENGTH = 1,    /* the IP length is right */
    CHECKSUMS = 2, /* so are the checksums; and the UDP length */
    CONTINUES = 4, /* headers as in the packet before, with the next sequence number and id */
};

struct packet {
    uint8_t *bytes; /* a block of its own and exactly so long, for ASan */
    size_t length;
};

static struct packet packets[N_PACKETS_MAX];
static struct gro_group group;
static uint8_t frame[VNET_LENGTH + 65536], split[PACKET_MAX];

static bool has_headers(const uint8_t *ip, size_t length) {
    return length >= 60 && (ip[0] == 0x45 || ip[0] >> 4 == 6) &&
           (split_protocol(ip) == SPLIT_TCP || split_protocol(ip) == SPLIT_UDP) &&
           split_header(ip) >= split_transport(ip) + 8 && split_header(ip) <= length;
}

/* The headers of `last` and the chunk's bytes as payload; in `built`. */
static size_t build_next(const struct packet *last, const uint8_t *chunk, size_t length,
                         uint8_t *built) {
    size_t header = split_header(last->bytes), at = split_transport(last->bytes) + 4;
    memcpy(built, last->bytes, header);
    memcpy(built + header, chunk, length);
    if (built[0] == 0x45)
        split_put_u16(built + 4, split_u16(built + 4) + 1);
    if (split_protocol(built) == SPLIT_TCP) {
        size_t low = split_u16(built + at + 2) + last->length - header;
        split_put_u16(built + at + 2, low);
        split_put_u16(built + at, split_u16(built + at) + (low >> 16));
    }
    return header + length;
}

static bool append(size_t i, uint8_t kind, const uint8_t *chunk, size_t length) {
    static uint8_t built[PACKET_MAX];
    const struct packet *last = i > 0 ? &packets[i - 1] : NULL;
    if ((kind & CONTINUES) != 0 && last != NULL && has_headers(last->bytes, last->length))
        length = build_next(last, chunk, length, built);
    else
        memcpy(built, chunk, length);
    if ((kind & LENGTH) != 0 && length >= 40)
        split_put_u16(built + (built[0] >> 4 == 4 ? 2 : 4),
                      built[0] >> 4 == 4 ? length : length - 40);
    if ((kind & CHECKSUMS) != 0 && has_headers(built, length))
        split_complete(built, length);
    packets[i] = (struct packet){malloc(length), length};
    if (packets[i].bytes == NULL)
        return false;
    memcpy(packets[i].bytes, built, length);
    return true;
}

static size_t make_packets(const uint8_t *data, size_t size) {
    size_t n = 0;
    while (size >= 3 && n < N_PACKETS_MAX) {
        size_t length = split_u16(data + 1) % CHUNK_MAX;
        length = length < size - 3 ? length : size - 3;
        if (!append(n, data[0], data + 3, length))
            break;
        n++;
        data += 3 + length;
        size -= 3 + length;
    }
    return n;
}

/* A sum of 0 has two forms in a checksum field; a split writes only one of them. */
static bool is_same_but_for_zero(const uint8_t *a, const uint8_t *b, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i] && !((a[i] == 0 && b[i] == 0xff) || (a[i] == 0xff && b[i] == 0)))
            return false;
    return true;
}

static bool is_same(const struct packet *packet) {
    size_t transport = split_transport(packet->bytes), header = split_header(packet->bytes);
    size_t place = (size_t)(split_checksum_place(packet->bytes) - packet->bytes);
    uint8_t *a = packet->bytes, *b = split;
    if (transport == 20 && !is_same_but_for_zero(a + 10, b + 10, 2))
        return false;
    memcpy(a + 10, b + 10, transport == 20 ? 2 : 0);
    return is_same_but_for_zero(a + place, b + place, 2) && memcmp(a, b, place) == 0 &&
           memcmp(a + place + 2, b + place + 2, header - place - 2) == 0 &&
           memcmp(a + header, b + header, packet->length - header) == 0;
}

static void check_group(const struct packet *first, size_t n) {
    size_t length = 0;
    int n_parts = gro_finish(&group);
    for (int i = 0; i < n_parts; i++) {
        memcpy(frame + length, group.iov[i].iov_base, group.iov[i].iov_len);
        length += group.iov[i].iov_len;
    }
    struct vnet vnet = vnet_read(frame);
    FUZZ_CHECK(vnet_check(&vnet, frame + VNET_LENGTH, length - VNET_LENGTH, 0) == (int)n);
    FUZZ_CHECK(split_fault(frame, length) == NULL);
    bool has_equal_ids =
        first[0].bytes[0] == 0x45 && split_u16(first[0].bytes + 4) == split_u16(first[1].bytes + 4);
    FUZZ_CHECK(!has_equal_ids || split_u16(first[0].bytes + 6) == 0x4000);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(split_has_right_checksums(first[i].bytes, first[i].length));
        FUZZ_CHECK(split_packet(frame, length, i, !has_equal_ids, split) == first[i].length);
        FUZZ_CHECK(is_same(&first[i]));
    }
    FUZZ_CHECK(split_packet(frame, length, n, 1, split) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n_packets = make_packets(data, size);
    for (size_t i = 0, n; i < n_packets; i += n) {
        n = 1;
        if (!gro_begin(&group, packets[i].bytes, packets[i].length, 0))
            continue;
        while (i + n < n_packets && gro_extend(&group, packets[i + n].bytes, packets[i + n].length))
            n++;
        FUZZ_CHECK(n == group.n_packets && n <= GRO_PACKETS_MAX);
        if (n > 1)
            check_group(packets + i, n);
    }
    for (size_t i = 0; i < n_packets; i++)
        free(packets[i].bytes);
    return 0;
}
