/* two_workers: the tun-reader and the link-writer of one lane in two threads, between a device and what
 * they send on. */
#ifndef TWO_WORKERS_H
#define TWO_WORKERS_H

#include "worker_thread.h"

enum { PATIENCE_MS = 5000, GIVEN_MAX = 2048, LINK_ID = 7 };

extern struct lane_memory two_lane;
extern struct worker_thread two_reader, two_writer;
extern int two_device[2], two_stream[2]; /* [0]: the workers' */
extern uint32_t two_n_given;

void open_lane(bool hands_over);
void close_lane(void);
/* Both, and the lane. */
void close_workers(void);
/* The link-writer sleeps, and offers its token. */
void await_sleep(void);

/* A packet to 10.0.0.2 with its number behind the IPv4 header. */
void two_make_packet(uint8_t *packet, size_t length);
/* The device gives one. */
void two_give(size_t length);

uint64_t counted(enum stats_role role, enum stats_counter counter);
/* All that was given has been sent and counted. */
void check_all_counted(void);

#endif
