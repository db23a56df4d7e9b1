/* Any bytes as an address in shared memory: what is made of it for the kernel stays inside its
 * envelope, and is read back as what it was where it is a peer's address at all. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "host/udp_address.h"
#include "shared/peer_table.h"

static struct peer_table table;

static void check_for(const struct udp_address *address, int family) {
    struct {
        struct envelope envelope;
        uint64_t guard;
    } guarded = {.guard = 0x1234567890abcdef};
    struct msghdr message = {.msg_iov = NULL};
    struct udp_address read;
    udp_address_envelope(address, family, &guarded.envelope, &message);
    udp_address_write_class(address, 3, &message);
    FUZZ_CHECK(guarded.guard == 0x1234567890abcdef);
    FUZZ_CHECK(message.msg_controllen <= sizeof guarded.envelope.control);
    FUZZ_CHECK(message.msg_namelen <= sizeof guarded.envelope.address);
    if (message.msg_namelen == 0)
        return;
    udp_address_read(&read, address->socket_index, &message);
    FUZZ_CHECK(read.port == address->port && read.socket_index == address->socket_index);
    if (read.family == address->family)
        FUZZ_CHECK(
            memcmp(read.address, address->address, read.family == UDP_ADDRESS_IPV4 ? 4 : 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct udp_address address = {0}, read;
    if (size == 0)
        return 0;
    memcpy(&address, data, size < sizeof address ? size : sizeof address);
    peer_write_endpoint(&table.by_link_reader[1], &address);
    FUZZ_CHECK(peer_table_endpoint(&table, 1, &read) == 1);
    FUZZ_CHECK(udp_address_equal(&read, &address));
    check_for(&read, AF_INET);
    check_for(&read, AF_INET6);
    return 0;
}
