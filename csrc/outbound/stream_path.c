/* <linux/tcp.h> and not <netinet/tcp.h>: glibc's struct tcp_info ends before tcpi_min_rtt. What an older
 * kernel does not report reads as 0. */
#include "outbound/stream_path.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "outbound/stream_writer.h"
#include "shared/clock.h"

enum {
    WATCH_MS = 5,
    ROOM_MIN = 4096, /* less is not worth a call */
};

/* false: it is not TCP, or the kernel is too old. */
static bool read_figures(const struct writer_link *link, struct path_figures *figures) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    if (getsockopt(link->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
        info.tcpi_delivered == 0)
        return false;
    uint64_t n_out = (uint64_t)info.tcpi_unacked + info.tcpi_retrans;
    uint64_t n_gone = (uint64_t)info.tcpi_sacked + info.tcpi_lost;
    *figures = (struct path_figures){
        .round_trip_ns = info.tcpi_rtt * 1000ull,
        .least_ns = info.tcpi_min_rtt * 1000ull,
        .n_delivered = info.tcpi_delivered,
        .packet = info.tcpi_snd_mss,
        .n_under_way =
            (n_out > n_gone ? n_out - n_gone : 0) * info.tcpi_snd_mss + info.tcpi_notsent_bytes,
    };
    return true;
}

void stream_path_watch(struct link_writer *writer, struct writer_link *link) {
    uint64_t now_ns = clock_now_ns();
    struct path_figures figures;
    if (!writer->fair.is_on && now_ns - link->path.looked_ns >= WATCH_MS * (uint64_t)NS_PER_MS &&
        read_figures(link, &figures))
        path_queue_look(&link->path, &figures, now_ns);
}

size_t stream_path_room(struct link_writer *writer, struct writer_link *link) {
    struct path_figures figures;
    if (!link->path.is_limited || writer->fair.is_on || !read_figures(link, &figures))
        return SIZE_MAX;
    path_queue_look(&link->path, &figures, clock_now_ns());
    uint64_t room = path_queue_room(&link->path, &figures);
    return room < ROOM_MIN ? 0 : room;
}

void stream_path_hold(struct link_writer *writer, struct writer_link *link, bool is_held) {
    writer->n_held += (unsigned)is_held - (unsigned)link->is_held;
    link->is_held = is_held;
}

void stream_path_look_again(struct link_writer *writer) {
    for (unsigned slot = 0; slot < N_PEER_SLOTS && writer->n_held > 0; slot++) {
        struct writer_link *link = writer->links[slot];
        if (link != NULL && link->is_held && stream_path_room(writer, link) > 0)
            stream_resume(writer, link);
    }
}
