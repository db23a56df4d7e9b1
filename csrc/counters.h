/* counters: what of sessions outlives the workers, a part of fastun.h by its rules.
 *
 * Each memory is mapped by those processes alone that write it.
 */
#ifndef FASTUN_COUNTERS_H
#define FASTUN_COUNTERS_H

#include "fastun.h"

/* -- sending counters (csrc/shared/sending_counters.h): tun-reader and gateway ------------------ */

enum { SENDING_PLACES = 4 }; /* of each peer's slot, which its sessions take in turns */

/* Where a session draws its counters: at a place of the slot, less what had been drawn there. */
struct counter_source {
    uint32_t place;
    uint64_t base;
};

struct sending_counters *sending_counters_create(int *fd);
struct sending_counters *sending_counters_attach(int fd);
void sending_counters_detach(struct sending_counters *counters);
/* What has been drawn at the place so far, since the memory was made. */
uint64_t sending_counters_drawn(struct sending_counters *counters, unsigned slot, unsigned place);
/* Draws one more, and returns what had been drawn before. */
uint64_t sending_counters_draw(struct sending_counters *counters, unsigned slot, unsigned place);

/* -- replay marks (csrc/shared/replay_marks.h): link-reader -------------------------------------- */

enum { MARKS_A_SLOT = 4 }; /* keys that a link-reader opens with for a peer, at once */

/* Makes the memory, which the gateway does not map, and returns its descriptor. */
int replay_marks_open(void);
struct replay_marks *replay_marks_attach(int fd);
void replay_marks_detach(struct replay_marks *marks);

#endif
