/* capture_command: loop_capture, and what it has to follow. */
#ifndef FASTUN_WORKER_CAPTURE_COMMAND_H
#define FASTUN_WORKER_CAPTURE_COMMAND_H

#include "loop/loop.h"

/* The UDP sockets have changed: a capture has to know their ports. */
void capture_note_ports(struct loop *loop);

#endif
