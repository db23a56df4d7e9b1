/* replay: which message counters of a session have been seen.
 *
 * A bitmap of 8192 bits, used as a ring of 64-bit blocks (RFC 6479): moving on clears whole blocks
 * and shifts nothing. One block is always in the making, so a counter may lie up to 8128 behind the
 * greatest one. Ask only for authenticated messages: an accepted counter moves the window.
 *
 * All zeros is a new session's window. Single-threaded, allocates nothing.
 */
#ifndef FASTUN_SESSION_REPLAY_H
#define FASTUN_SESSION_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

enum {
    REPLAY_BITS = 8192,
    REPLAY_BLOCK_BITS = 64,
    REPLAY_BLOCKS = REPLAY_BITS / REPLAY_BLOCK_BITS,
    REPLAY_WINDOW = REPLAY_BITS - REPLAY_BLOCK_BITS,
};

/* No message may bear this counter or a greater one (WireGuard whitepaper 6.1). What it leaves
 * free keeps the window's arithmetic from wrapping. */
#define REJECT_AFTER_MESSAGES (UINT64_MAX - REPLAY_BITS)

struct replay {
    uint64_t next; /* one more than the greatest counter seen; 0 = none yet */
    uint64_t blocks[REPLAY_BLOCKS];
};

/* Marks the counter; false when it was marked before, lies behind the window or is not allowed. */
bool replay_accept(struct replay *replay, uint64_t counter);
/* Nothing below `next` is accepted any more. */
void replay_use_up(struct replay *replay, uint64_t next);

#endif
