/* stream_path: a stream's own queue on its path, looked at and kept short (path_queue.h).
 *
 * A stream that has as much under way as it may is held: it counts as full, and is looked at again
 * each millisecond, since no event says that something was acknowledged. Nothing is looked at as long as
 * its socket is never full; and not while peers take turns (fair_writer.h), which keeps the queue here.
 */
#ifndef FASTUN_OUTBOUND_STREAM_PATH_H
#define FASTUN_OUTBOUND_STREAM_PATH_H

#include "outbound/link_writer.h"

enum { STREAM_PATH_LOOK_NS = 1000 * 1000 };

/* Its socket is full. */
void stream_path_watch(struct link_writer *writer, struct writer_link *link);
/* How many bytes it may take now. */
size_t stream_path_room(struct link_writer *writer, struct writer_link *link);
/* It may take no more for now, or may again. */
void stream_path_hold(struct link_writer *writer, struct writer_link *link, bool is_held);
/* Writes what those that are held may take by now. */
void stream_path_look_again(struct link_writer *writer);

#endif
