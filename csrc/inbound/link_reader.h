/* link_reader: what its two kinds of sources, streams and UDP sockets, do for it. */
#ifndef FASTUN_INBOUND_LINK_READER_H
#define FASTUN_INBOUND_LINK_READER_H

#include "inbound/message_in.h"

enum source_end {
    SOURCE_MORE,  /* all that was read has been passed on */
    SOURCE_FULL,  /* the ring is full: pass on the rest later */
    SOURCE_EVENT, /* loop->event has something; there may be more to pass on */
    SOURCE_OVER,  /* loop->event says why the stream has ended */
};

/* One read. */
enum source_end stream_read(struct loop *loop, unsigned slot);
enum source_end datagrams_read(struct loop *loop, unsigned socket_index);
/* What an earlier read has left. */
enum source_end stream_pass(struct loop *loop, unsigned slot);
enum source_end datagrams_pass(struct loop *loop);

#endif
