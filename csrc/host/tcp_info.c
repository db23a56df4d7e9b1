/* link_tcp_info: what the kernel reports of a TCP link, as far as the metrics show it.
 *
 * <linux/tcp.h> and not <netinet/tcp.h>: glibc's struct tcp_info ends before tcpi_notsent_bytes.
 * The kernel only ever appends to the structure, so one that is older than our header fills less
 * of it; what it does not report reads as 0.
 */
#include "fastun.h"

#include <linux/tcp.h>
#include <string.h>

void link_tcp_info_decode(const void *option, size_t length, struct link_tcp_info *info) {
    struct tcp_info kernel = {0};
    memcpy(&kernel, option, length < sizeof kernel ? length : sizeof kernel);
    *info = (struct link_tcp_info){
        .rtt_us = kernel.tcpi_rtt,
        .n_retransmits = kernel.tcpi_total_retrans,
        .notsent_bytes = kernel.tcpi_notsent_bytes,
    };
}
