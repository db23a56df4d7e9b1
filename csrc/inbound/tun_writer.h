/* tun_writer: the state of the inbound direction's last worker. */
#ifndef FASTUN_INBOUND_TUN_WRITER_H
#define FASTUN_INBOUND_TUN_WRITER_H

#include "loop/loop.h"

struct tun_writer {
    struct loop loop;                        /* first: tun_writer_of */
    enum device_offload coalesce;            /* which packets may be put together */
    struct refusals groups[N_PEER_SLOTS][2]; /* super-packets from them, by sender: TCP, UDP */
};

/* A copy of `common` begins it. NULL with errno set on failure. */
struct loop *tun_writer_new(const struct loop *common);
void tun_writer_free(struct tun_writer *writer);
enum loop_end tun_writer_loop(struct tun_writer *writer);

/* NULL: it is another role's. */
static inline struct tun_writer *tun_writer_of(struct loop *loop) {
    return loop->role == ROLE_tun_writer ? (struct tun_writer *)(void *)loop : NULL;
}

#endif
