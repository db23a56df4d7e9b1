/* Any bytes as an IP packet and as an Ethernet frame: the walk stays within them (ASan), what it
 * says agrees with the headers that it names, and a packet cut behind them is walked the same. The
 * first byte is not used: the seeds have their link's format there, and an offload header. */
#include "fuzz.h"
#include "packet/encapsulation.h"
#include "packet/flow.h"
#include "packet/headers.h"

static bool is_equal(struct ip_headers a, struct ip_headers b) {
    return a.transport == b.transport && a.protocol == b.protocol &&
           a.n_extensions == b.n_extensions && a.is_fragment == b.is_fragment &&
           a.is_later_fragment == b.is_later_fragment && a.is_authenticated == b.is_authenticated;
}

static void check_walk(const uint8_t *packet, size_t length) {
    struct ip_headers headers = ip_walk(packet, length);
    if (headers.transport == 0)
        return;
    bool is_ipv4 = ip_version(packet) == 4;
    FUZZ_CHECK(headers.transport <= length && headers.transport % 4 == 0);
    FUZZ_CHECK(headers.transport >= (is_ipv4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE));
    FUZZ_CHECK(headers.is_fragment || !headers.is_later_fragment);
    FUZZ_CHECK(headers.n_extensions <= (is_ipv4 ? 0 : EXTENSIONS_MAX));
    FUZZ_CHECK(is_ipv4 || headers.is_later_fragment || !ip6_is_extension(headers.protocol));
    FUZZ_CHECK(is_equal(headers, ip_walk(packet, headers.transport)));
    FUZZ_CHECK(ip_walk(packet, headers.transport - 1).transport == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { IN_FRONT = 1 + VNET_LENGTH };
    if (size < IN_FRONT)
        return 0;
    const uint8_t *frame = data + IN_FRONT;
    size_t length = size - IN_FRONT, ip = ethernet_find_ip(frame, length);
    check_walk(frame, length);
    for (enum mode mode = MODE_TUN; mode <= MODE_TAP; mode++)
        if (message_is_frame(mode, frame, length))
            FUZZ_CHECK(flow_of(mode, frame, length) < N_FLOWS);
    if (ip != 0) {
        FUZZ_CHECK(ip_version(frame + ip) == 4 || ip_version(frame + ip) == 6);
        check_walk(frame + ip, length - ip);
    }
    return 0;
}
