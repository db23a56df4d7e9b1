/* datagram_writer: the link-writer's records for peers on UDP, as few system calls as it takes.
 *
 * A train is what one sendmsg carries: up to TRAIN_SEGMENTS_MAX datagrams for one peer, all equally
 * long but the last, which the kernel or the network card cuts apart (UDP_SEGMENT, udp(7)). Many
 * trains go in one sendmmsg. Where the kernel refuses trains, their datagrams go one by one.
 */
#ifndef FASTUN_OUTBOUND_DATAGRAM_WRITER_H
#define FASTUN_OUTBOUND_DATAGRAM_WRITER_H

#include "shared/ring.h"

enum {
    TRAIN_SEGMENTS_MAX = 64, /* UDP_MAX_SEGMENTS of the kernels before 6.9 */
    TRAIN_BYTES_MAX = 65000, /* with IP and UDP header under 65,535 */
    TRAINS_MAX = 64,
    TRAIN_RECORDS_MAX = 256, /* of all trains together: the link-writer's batch */
};

struct loop;
struct loop_socket;

/* Called first by a new link-writer: its predecessor may have been killed between clearing "don't
 * fragment" for one datagram and setting it again. Returns 0 or -errno. */
int datagram_writer_adopt(const struct loop_socket *where);

enum datagrams_end {
    DATAGRAMS_DONE,
    DATAGRAMS_STOPPED, /* the doorbell rang while a socket was full: the rest is not done */
};

/* Sends or drops, and counts, those of the `n` records whose link is on UDP and that are not done;
 * marks them done. */
enum datagrams_end datagrams_write(struct loop *loop, const struct ring_view *const *records,
                                   bool *is_done, int n);

/* Sends one message that is in no record, whole or not at all. Returns 0 or -errno; of EMSGSIZE the
 * gateway is told. */
int datagram_write(struct loop *loop, unsigned slot, const uint8_t *message, size_t length);

#endif
